"""Shared by the corruptions: pixels as fractions, and one random generator per image."""

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32 (n, h, w, 3), RGB, 0 to 1. Results of a corruption may lie outside and are clipped."""
Generators = Sequence[np.random.Generator]
"""One generator per image."""

_CORRUPTION_TAG = 0x636F_7272
"""Separates these random streams from all others with the same seed (ASCII "corr")."""


def to_pixels(images: NDArray[np.uint8]) -> Pixels:
    """Convert uint8 images, 0-255, to fractions."""
    return images.astype(np.float32) / np.float32(255)


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Convert fractions to uint8, clipped to 0 to 1 and rounded."""
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * np.float32(255)), np.uint8)


def generators(seed: int, family: str, severity: int, indices: NDArray[np.int64]) -> list[np.random.Generator]:
    """Return a generator for each image, which depends only on seed, family, severity and the image's index."""
    common = [_CORRUPTION_TAG, seed, crc32(family.encode()), severity]
    return [np.random.Generator(np.random.PCG64([*common, index])) for index in indices.tolist()]


def drawn(rngs: Generators, draw: Callable[[np.random.Generator], object]) -> NDArray[np.float32]:
    """Stack the results of ``draw`` for each generator: float32 (n, …)."""
    return np.stack([np.asarray(draw(rng), np.float32) for rng in rngs])
