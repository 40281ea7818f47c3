"""Generated frost textures: branching ice crystals under a thin haze.

CIFAR-10-C overlays photographs of frost, which this package does not contain. Results for frost are therefore similar
to published ones, but not identical.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

ICE = np.array([0.82, 0.92, 1.0], np.float32)
"""Color of the ice, RGB, 0 to 1."""
TEXTURES = 5
"""Number of textures, as many as the photographs of CIFAR-10-C."""
SIDE = 256
"""Height and width of a texture in pixels. Its edges wrap around."""
CRYSTALS = 150
"""Number of crystals per texture."""
LENGTHS = (14.0, 40.0)
"""Minimum and maximum length of a stem in pixels."""
SPREAD_DEGREES = 60
"""Angle between a branch and its parent; ice crystals have sixfold symmetry."""
TIERS = ((5.0, 0.6), (3.5, 0.4))
"""Spacing in pixels and relative length of the branches of stems, and of the branches of branches."""
POINTS = 48
"""Number of points along each stem and branch."""
_FROST_TAG = 0x6672_6F73
"""Separates this random stream from all others (ASCII "fros")."""


@dataclass(frozen=True)
class Strokes:
    """Straight lines: start (pixels), direction (radians) and length (pixels), float64 (n,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    length: NDArray[np.float64]

    def at(self, distance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the coordinates (n, k) of the points at distances (n, k) from the starts."""
        return self.x[:, None] + distance * np.cos(self.angle)[:, None], (
            self.y[:, None] + distance * np.sin(self.angle)[:, None]
        )


def frost_texture(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random crop of a random texture, float32 (height, width), 0 to 1, randomly flipped and transposed."""
    texture = _texture(int(rng.integers(TEXTURES)))
    top, left, flips = rng.integers(SIDE), rng.integers(SIDE), rng.integers(0, 2, 3)
    rows, columns = (top + np.arange(height)) % SIDE, (left + np.arange(width)) % SIDE
    crop: NDArray[np.float32] = (texture.T if flips[2] else texture)[rows[:, None], columns]
    return crop[:: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]


@cache
def _texture(number: int) -> NDArray[np.float32]:
    """Generate a texture, float32 (SIDE, SIDE), 0 to 1, which depends only on its number."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.Generator(np.random.PCG64([_FROST_TAG, number]))
    ice = _drawn(_crystals(rng))
    haze = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 12, mode="wrap")
    haze = (haze - haze.min()) / (haze.max() - haze.min())
    crystals = 1 - np.exp(-1.3 * gaussian_filter(ice, 0.5, mode="wrap"))
    texture: NDArray[np.float32] = (0.35 * haze + crystals).clip(0, 1).astype(np.float32)
    return texture


def _crystals(rng: np.random.Generator) -> list[Strokes]:
    """Return stems, their branches and the branches of these."""
    x, y = rng.uniform(0, SIDE, (2, CRYSTALS))
    tiers = [Strokes(x, y, rng.uniform(0, 2 * np.pi, CRYSTALS), rng.uniform(*LENGTHS, CRYSTALS))]
    for gap, share in TIERS:
        tiers.append(_branches(tiers[-1], gap, share))
    return tiers


def _branches(parents: Strokes, gap: float, share: float) -> Strokes:
    """Return pairs of branches along each parent, shorter toward its tip."""
    distance = np.tile(np.arange(gap, parents.length.max(), gap), (len(parents.length), 1))
    left = parents.length[:, None] - distance
    x, y = parents.at(distance)
    parent, place = np.nonzero(left > gap)
    turns = np.repeat(np.radians([-SPREAD_DEGREES, SPREAD_DEGREES]), len(parent))
    twice = (np.tile(parent, 2), np.tile(place, 2))
    return Strokes(x[twice], y[twice], parents.angle[twice[0]] + turns, share * left[twice])


def _drawn(tiers: list[Strokes]) -> NDArray[np.float64]:
    """Return the amount of ice on each pixel: the total length of all strokes on it."""
    ice = np.zeros(SIDE * SIDE)
    for strokes in tiers:
        distance = np.linspace(0, 1, POINTS) * strokes.length[:, None]
        x, y = (np.rint(each).astype(np.int64) % SIDE for each in strokes.at(distance))
        amount = np.broadcast_to(strokes.length[:, None] / POINTS, x.shape)
        ice += np.bincount((y * SIDE + x).ravel(), amount.ravel(), SIDE * SIDE)
    return ice.reshape(SIDE, SIDE)
