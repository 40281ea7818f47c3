"""One ruler for anything that turns images into logits: a Keras model on any framework, or an ONNX file.

``evaluate`` gives loss and accuracy, with numpy alone. ``measure`` gives everything that is told of a classifier,
``compare`` sets two of them side by side and ``calibrate`` makes probabilities mean what they say; those three need
scikit-learn and SciPy, which are imported when they are called.
"""
