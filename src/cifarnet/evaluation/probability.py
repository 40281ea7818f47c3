"""From logits to probabilities, in float64, so that every figure rests on the same ones."""

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError

Probabilities = NDArray[np.float64]
"""float64 (n, classes), 0 to 1, each row with the sum 1."""


def require_finite(logits: NDArray[np.float32]) -> None:
    """Raise ``DataError`` for logits, of any shape, of which one is infinite or NaN: no class would be meant by it."""
    if not np.isfinite(logits).all():
        raise DataError("the logits are not all finite; expected numbers: lower the learning rate and train again")


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Probabilities:
    """Return the softmax of ``logits`` (..., classes) divided by ``temperature``, above 0: float64, the same shape."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
