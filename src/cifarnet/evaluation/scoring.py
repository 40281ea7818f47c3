"""One ruler for anything that turns images into logits: a Keras model on any framework, or an ONNX file."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import Split
from cifarnet.errors import DataError

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (n, h, w, 3), 0-255, to logits (n, classes)."""

EVALUATION_BATCH = 256
"""Images per call: 100 were 10 % slower on TensorFlow, 25 % on torch and no faster on JAX."""


def flip_averaged(predictor: Predictor) -> Predictor:
    """Return the predictor of the mean of what ``predictor`` says of an image and of its mirror image.

    Both take images uint8 (n, h, w, 3), 0-255, and give logits float32 (n, classes).
    """

    def both(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        mirrored = predictor(np.ascontiguousarray(images[:, :, ::-1]))
        return (predictor(images) + mirrored) * np.float32(0.5)

    return both


@dataclass(frozen=True)
class Score:
    """How well logits match labels."""

    loss: float
    """Mean cross-entropy, nats."""
    accuracy: float
    """Fraction of images whose largest logit is the label's, 0 to 1."""
    images: int
    """Number of images scored."""


def evaluate(predictor: Predictor, split: Split) -> Score:
    """Score ``predictor`` on every image of ``split``. Raises ``DataError`` for a split without images."""
    return score(predict(predictor, split.images), split.labels)


def predict(predictor: Predictor, images: NDArray[np.uint8], batch_size: int = EVALUATION_BATCH) -> NDArray[np.float32]:
    """Return what ``predictor`` says of ``images`` (n, h, w, 3): logits float32 (n, classes).

    They go through in batches of one size, so as to compile once; a predictor of another shape (n, …) is as welcome.
    Raises ``DataError`` for no images.
    """
    if not len(images):
        raise DataError("there are 0 images to score; expected at least 1: add images to the split")
    starts = range(0, len(images), batch_size)
    return np.concatenate([_predict_padded(predictor, images[at : at + batch_size], batch_size) for at in starts])


def _predict_padded(predictor: Predictor, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    padding = [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)]
    return predictor(np.pad(images, padding))[: len(images)]


def score(logits: NDArray[np.floating[Any]], labels: NDArray[np.int32]) -> Score:
    """Return the score of logits (n, classes) against labels (n,), summed in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    log_likelihood = wide[np.arange(len(labels)), labels] - np.log(np.exp(wide).sum(axis=1))
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    return Score(loss=float(-log_likelihood.mean()), accuracy=float(accuracy), images=len(labels))
