"""Turn the weights of a run into one self-describing ONNX file, and prove it before it gets its name."""
