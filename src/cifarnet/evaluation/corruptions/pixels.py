"""What the families share: pixels as fractions, and random numbers that belong to one image each."""

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32 (n, h, w, 3), RGB, 0 to 1; what a family returns may lie outside and is cut off."""
Generators = Sequence[np.random.Generator]
"""One per image."""

FULL = np.float32(255)
"""The brightest value of a channel."""
_CORRUPTION_TAG = 0x636F_7272
"""Keeps these streams of random numbers apart from every other with the same seed (ASCII "corr")."""


def to_pixels(images: NDArray[np.uint8]) -> Pixels:
    """Return uint8 images, 0-255, as fractions."""
    return images.astype(np.float32) / FULL


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Return fractions as uint8, rounded, what lies outside 0 to 1 cut off."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(pixels, 0, 1) * FULL).astype(np.uint8)
    return rounded


def generators(seed: int, family: str, severity: int, indices: NDArray[np.int64]) -> list[np.random.Generator]:
    """Return a generator for each image, a function of seed, family, severity and the image's index alone."""
    common = [_CORRUPTION_TAG, seed, crc32(family.encode()), severity]
    return [np.random.Generator(np.random.PCG64([*common, index])) for index in indices.tolist()]


def drawn(rngs: Generators, draw: Callable[[np.random.Generator], object]) -> NDArray[np.float32]:
    """Return what ``draw`` makes of each generator, stacked: float32 (n, …)."""
    return np.stack([np.asarray(draw(rng), np.float32) for rng in rngs])
