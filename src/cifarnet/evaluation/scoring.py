"""Predictions, softmax, loss and accuracy: the same code for Keras models and for ONNX files."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.arguments import described, instance, takes
from cifarnet.backends import ALONE, Workers, default_settings, numpy_defaults
from cifarnet.dataset import Split
from cifarnet.errors import DataError, UsageError, reason
from cifarnet.system import images_at_once

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps images uint8 (n, h, w, 3), 0-255, to logits float32 (n, classes)."""
Probabilities = NDArray[np.float64]
"""float64 (n, classes), 0 to 1; each row has the sum 1."""

EVALUATION_BATCH = 256
"""Batch size of images of 32x32 pixels; larger images have smaller batches.

100 were 10% slower on TensorFlow, 25% slower on torch and no faster on JAX.
"""


def with_tta(predictor: Predictor, views: int) -> Predictor:
    """Return a predictor with test-time augmentation: the mean of the logits over ``views`` of each image.

    Two views are the image and its horizontal flip. Six are these, the image translated by one pixel to the upper left
    and to the lower right, padded by reflection, and the flips of both; the last four together have half of the weight
    (Jordan 2024). One view is the image itself.
    """

    def with_flip(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        flipped = predictor(np.ascontiguousarray(images[:, :, ::-1]))
        return (predictor(np.ascontiguousarray(images)) + flipped) * np.float32(0.5)

    def with_translations(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        translated = with_flip(padded[:, :-2, :-2]) + with_flip(padded[:, 2:, 2:])
        return with_flip(images) * np.float32(0.5) + translated * np.float32(0.25)

    return {1: predictor, 2: with_flip, 6: with_translations}[views]


@dataclass(frozen=True)
class Score:
    """Loss and accuracy on a number of images."""

    loss: float
    """Mean cross-entropy, nats."""
    accuracy: float
    """Fraction of correct predictions, 0 to 1."""
    images: int
    """Number of images."""


@takes(split=instance(Split, "a Split, such as dataset.test"))
def evaluate(predictor: Any, split: Split, workers: Workers = ALONE) -> Score:
    """Return loss and accuracy of ``predictor`` on ``split``, such as ``dataset.test``; ``workers`` as in ``predict``.

    ``predictor`` is a Keras model, a ``Classifier``, or a function from images uint8 (n, h, w, 3), RGB, 0-255, to
    logits or probabilities, an array (n, classes). Rows that are non-negative and sum to 1, up to the rounding of
    half precision, are treated as probabilities.

    Raises ``UsageError`` for other arguments, and ``DataError`` if the split has no images or if the predictor does not
    return such an array.
    """
    found = predict(_function(predictor), split.images, workers=workers)
    classes = int(split.labels.max()) + 1
    if found.ndim != 2 or found.shape[1] < classes:
        raise DataError(
            f"the predictor returns the shape {found.shape}; expected ({len(split)}, {classes}) or more columns: pass "
            "one that returns a logit or a probability per class"
        )
    # bfloat16 rounds each probability by up to 0.4%.
    if (found >= 0).all() and np.allclose(found.sum(axis=1), 1, rtol=0, atol=0.01):
        found = np.log(np.maximum(found, np.finfo(np.float32).tiny))  # logits, up to a constant
    return score(found, split.labels)


def _function(predictor: Any) -> Predictor:
    is_keras = callable(getattr(predictor, "predict_on_batch", None))
    # Known by their methods: this module needs neither Keras nor onnxruntime.
    function = predictor.predict_on_batch if is_keras else getattr(predictor, "logits", predictor)
    if not callable(function):
        raise UsageError(f"predictor is {described(predictor)}; expected a Keras model, a Classifier, or a function")

    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with default_settings() if is_keras else nullcontext():
            found = function(images)
        try:
            with numpy_defaults():
                return np.asarray(found, np.float32)
        except (TypeError, ValueError, RuntimeError) as error:  # the last of torch, for a tensor with a gradient
            raise DataError(
                f"the result of the predictor is {described(found)}, not an array ({reason(error)}); expected float32 "
                "(n, classes): convert it, or pass the Keras model itself"
            ) from error

    return forward


def predict(
    predictor: Predictor,
    images: NDArray[np.uint8],
    batch_size: int | None = None,
    workers: Workers = ALONE,
) -> NDArray[np.float32]:
    """Return the logits, float32 (n, classes), of ``images``, uint8 (n, h, w, 3), 0-255.

    The predictor is called with batches of one size, by default ``evaluation_batch``, so that it compiles once; the
    last batch is padded. It may also return another shape (n, …). Several ``workers`` share the batches. Raises
    ``DataError`` if there are no images.
    """
    if not len(images):
        raise DataError("there are 0 images to score; expected at least 1: add images to the split")
    batch_size = batch_size or evaluation_batch(images.shape[1:])
    starts = range(0, len(images), batch_size)
    own = []
    for index in workers.own(len(starts)):
        batch = images[starts[index] : starts[index] + batch_size]
        own.append(predictor(np.pad(batch, [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)])))
    if workers.count > 1:
        own = [logits for (logits,) in workers.in_order([[logits] for logits in own], len(starts))]
    return np.concatenate(own)[: len(images)]


def evaluation_batch(shape: tuple[int, ...]) -> int:
    """Return the batch size for images of ``shape``, (height, width, channels)."""
    return images_at_once(EVALUATION_BATCH, shape)


@numpy_defaults()
def score(logits: NDArray[np.floating[Any]], labels: NDArray[np.int32]) -> Score:
    """Return loss and accuracy of logits (n, classes) and labels (n,), computed in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    log_likelihood = wide[np.arange(len(labels)), labels] - np.log(np.exp(wide).sum(axis=1))
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    return Score(loss=float(-log_likelihood.mean()), accuracy=float(accuracy), images=len(labels))


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Probabilities:
    """Return the softmax of ``logits`` (..., classes) divided by ``temperature``, above 0: float64, the same shape."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def require_finite(logits: NDArray[np.float32]) -> None:
    """Raise ``DataError`` if any of the logits (any shape) is infinite or NaN."""
    if not np.isfinite(logits).all():
        raise DataError("the logits are not all finite; expected numbers: lower the learning rate and train again")
