"""What training minimises, written in Keras operations so that the three frameworks compute the same."""

from typing import Any

import keras
from keras import ops

from cifarnet.backends import StepResult


def objective(logits: Any, labels: Any, weights: Any) -> tuple[Any, StepResult]:
    """Return the mean cross-entropy of a batch, and its sums.

    ``logits`` is float32 (n, classes), ``labels`` int32 (n,), ``weights`` float32 (n,): 0 for an image that only fills
    the batch up, 1 for every other. It is Keras' ``sparse_categorical_crossentropy``, taken from the logits because
    the logarithm of a rounded probability differs between the frameworks.
    """
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    hits = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")
    loss_sum = ops.sum(losses * weights)
    return loss_sum / ops.sum(weights), StepResult(loss_sum=loss_sum, correct=ops.sum(hits * weights))
