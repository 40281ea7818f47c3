"""A generated dataset, to try everything without a download.

Ten patterns at random positions, sizes and colors, with noise. A small network learns them in seconds; a linear model
does not, because color and polarity carry no information. Integer arithmetic gives the same bytes on every machine.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import ConfigError

_SYNTHETIC_TAG = 0x7379_6E74
"""Separates these random streams from all others with the same seed (ASCII "synt")."""

_NOISE = 40
"""Maximum change of a channel, 0-255. The two colors differ by at least 64 in each channel."""

_Grid = NDArray[np.int16]
"""int16, broadcastable to (n, 32, 32): coordinates of each pixel relative to a random origin."""


def _cross(x: _Grid, y: _Grid, scale: _Grid) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.minimum(abs(x), abs(y)) * 3 < 2 * scale
    far: NDArray[np.bool_] = np.maximum(abs(x), abs(y)) >= 3 * scale
    return near & ~far


def _stripes(distance: _Grid, scale: _Grid) -> NDArray[np.bool_]:
    return distance // scale % 2 == 0


_PATTERNS: dict[str, Callable[[_Grid, _Grid, _Grid], NDArray[np.bool_]]] = {
    "horizontal stripes": lambda _, y, scale: _stripes(y, scale),
    "vertical stripes": lambda x, _, scale: _stripes(x, scale),
    "falling stripes": lambda x, y, scale: _stripes(x - y, scale),
    "rising stripes": lambda x, y, scale: _stripes(x + y, scale),
    "checks": lambda x, y, scale: _stripes(x, scale) ^ _stripes(y, scale),
    "diamonds": lambda x, y, scale: _stripes(abs(x) + abs(y), scale),
    "frames": lambda x, y, scale: _stripes(np.maximum(abs(x), abs(y)), scale),
    "disc": lambda x, y, scale: x * x + y * y < 4 * scale * scale,
    "square": lambda x, y, scale: np.maximum(abs(x), abs(y)) < 2 * scale,
    "cross": _cross,
}
"""Mask of the pixels in the first color, by class name."""


def synthetic(train: int = 2000, test: int = 500, seed: int = 0, classes: int = 10) -> Dataset:
    """Generate a dataset of simple patterns; the same arguments give the same bytes on every machine.

    ``train`` and ``test`` are numbers of images, divided evenly among the ``classes`` (2 to 10). Raises ConfigError if
    an argument is out of range.
    """
    if not (2 <= classes <= len(_PATTERNS) and min(train, test) >= classes and seed >= 0):
        raise ConfigError(
            f"synthetic data with {classes} classes, {train} and {test} images, seed {seed}; expected 2 to "
            f"{len(_PATTERNS)} classes, an image per class in each split, and a seed ≥ 0"
        )
    return Dataset(
        name="synthetic",
        train=_split(train, classes, np.random.Generator(np.random.PCG64([seed, _SYNTHETIC_TAG, 1]))),
        test=_split(test, classes, np.random.Generator(np.random.PCG64([seed, _SYNTHETIC_TAG, 2]))),
        labels=tuple(_PATTERNS)[:classes],
    )


def _split(count: int, classes: int, rng: np.random.Generator) -> Split:
    labels = rng.permutation(np.arange(count, dtype=np.int32) % classes)
    return Split(_noisy(_colored(_masks(labels, rng), rng), rng), labels)


def _masks(labels: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pattern of each label, bool (n, 32, 32)."""
    shape = (len(labels), 1, 1)
    x = np.arange(IMAGE_SHAPE[1], dtype=np.int16) - rng.integers(10, 22, shape, np.int16)
    y = np.arange(IMAGE_SHAPE[0], dtype=np.int16)[:, None] - rng.integers(10, 22, shape, np.int16)
    scale = rng.integers(3, 6, shape, np.int16)
    masks = np.empty((len(labels), *IMAGE_SHAPE[:2]), np.bool_)
    for label, pattern in enumerate(_PATTERNS.values()):
        chosen = labels == label
        masks[chosen] = pattern(x[chosen], y[chosen], scale[chosen])
    return masks


def _colored(masks: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw each mask in two random colors that differ in every channel: int16 (n, 32, 32, 3)."""
    shape = (len(masks), 1, 1, IMAGE_SHAPE[2])
    first = rng.integers(0, 256, shape, np.int16)
    second = (first + rng.integers(64, 193, shape, np.int16)) % 256
    return np.where(masks[..., None], first, second)


def _noisy(images: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = rng.integers(-_NOISE, _NOISE + 1, images.shape, np.int16)
    return np.clip(images + noise, 0, 255).astype(np.uint8)
