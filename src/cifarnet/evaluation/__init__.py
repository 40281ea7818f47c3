"""Evaluation of anything that maps images to logits: a Keras model on any backend, or an ONNX file."""
