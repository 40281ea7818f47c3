"""Use an exported model file in an app: numpy and onnxruntime, no Keras and no framework.

``Classifier`` is all that an app needs; Pillow is loaded when it is given a file or a picture.
"""

from .classifier import Classifier, Outcome
from .files import find_images
from .session import OpenedModel, open_model, read_model

__all__ = ["Classifier", "OpenedModel", "Outcome", "find_images", "open_model", "read_model"]
