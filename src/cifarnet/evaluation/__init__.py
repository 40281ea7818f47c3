"""One ruler for anything that turns images into logits: a Keras model on any framework, or an ONNX file.

``evaluate`` gives loss and accuracy, with numpy alone. ``measure`` gives everything that is told of a classifier,
``compare`` sets two of them side by side and ``calibrate`` makes probabilities mean what they say; those three need
scikit-learn and SciPy, which are imported when they are called.
"""

from .calibration import (
    Abstaining,
    Bin,
    Calibration,
    Coverage,
    Reliability,
    calibrate,
    reliability,
    temperature_of,
    threshold_of,
)
from .intervals import Interval, wilson
from .measures import ClassMeasures, ConfidentError, ConfusedPair, Evaluation, measure
from .paired import Difference, PairedComparison, compare
from .probability import softmax
from .scoring import EVALUATION_BATCH, Predictor, Score, evaluate, flip_averaged, predict, score

__all__ = [
    "EVALUATION_BATCH",
    "Abstaining",
    "Bin",
    "Calibration",
    "ClassMeasures",
    "ConfidentError",
    "ConfusedPair",
    "Coverage",
    "Difference",
    "Evaluation",
    "Interval",
    "PairedComparison",
    "Predictor",
    "Reliability",
    "Score",
    "calibrate",
    "compare",
    "evaluate",
    "flip_averaged",
    "measure",
    "predict",
    "reliability",
    "score",
    "softmax",
    "temperature_of",
    "threshold_of",
    "wilson",
]
