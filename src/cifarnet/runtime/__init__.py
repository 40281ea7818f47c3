"""Inference with an exported model, with numpy and onnxruntime, without Keras or a framework.

Apps only need ``Classifier``. Pillow is imported when it is given a file or a Pillow image.
"""

from .classifier import Classifier
from .files import find_images
from .prediction import Outcome, Prediction
from .session import OpenedModel, open_model, read_model
