"""Export the weights of a run to a self-describing ONNX file, verified by a parity check."""
