"""The order in which an epoch visits the training images."""

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import ConfigError

_ORDER_TAG = 0x6F72_6465
"""Keeps this stream of random numbers apart from every other with the same seed (ASCII "orde")."""


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a permutation of ``range(count)``, int64 (count,), that depends on seed and epoch alone.

    So that a resumed run needs no generator state. Raises ConfigError when an argument is negative.
    """
    if min(count, seed, epoch) < 0:
        raise ConfigError(f"count {count}, seed {seed}, epoch {epoch}; expected none below 0: pass whole numbers ≥ 0")
    rng = np.random.Generator(np.random.PCG64([seed, _ORDER_TAG, epoch]))
    return rng.permutation(np.arange(count, dtype=np.int64))
