"""What training minimises, written in Keras operations so that the three frameworks compute the same."""

from typing import Any

import keras
from keras import ops

from cifarnet.backends import Sums


def objective(logits: Any, labels: Any, weights: Any, label_smoothing: float = 0.0) -> Sums:
    """Return the cross-entropy and the number of right answers, summed over a batch.

    ``logits`` is float32 (n, classes), ``labels`` int32 (n,), ``weights`` float32 (n,): 0 for an image that only fills
    the batch up, 1 for every other. It is Keras' ``sparse_categorical_crossentropy``, taken from the logits because
    the logarithm of a rounded probability differs between the frameworks. The part ``label_smoothing`` of the target is
    shared by all classes, the labelled one included (Szegedy et al. 2016, section 7).
    """
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if label_smoothing:
        shared = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * shared
    hits = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")
    return Sums(loss=ops.sum(losses * weights), correct=ops.sum(hits * weights))
