"""Evaluation of anything that maps images to logits: a Keras model on any backend, or an ONNX file.

``scoring`` computes loss and accuracy and needs only numpy. ``metrics``, ``significance`` and ``calibration`` also need
scikit-learn and SciPy, which are imported when they are used.
"""
