"""Panes of frost, drawn: ferns of ice with branches on branches, under a thin haze.

The published images are overlaid with photographs, which do not belong to this package. These are other panes: figures
for frost compare in kind, not digit for digit.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

ICE = np.array([0.82, 0.92, 1.0], np.float32)
"""Colour of ice in full light."""
PANES = 5
"""That are drawn, as many as there are photographs to choose from."""
SIDE = 256
"""Pixels of a pane, which goes on at its other end."""
FERNS = 150
"""On a pane."""
LENGTHS = (14.0, 40.0)
"""Of a fern's stem, pixels, from and to."""
SPREAD_DEGREES = 60
"""Between a branch and what it grows from: ice has six directions."""
TIERS = ((5.0, 0.6), (3.5, 0.4))
"""Of the branches on a stem and of those on a branch: pixels between two, and length by what is left of the parent."""
POINTS = 48
"""Drawn along each stem and branch."""
_FROST_TAG = 0x6672_6F73
"""Keeps the panes' random numbers apart from every other (ASCII "fros")."""


@dataclass(frozen=True)
class Strokes:
    """Straight lines: where each starts, its direction in radians and its length, pixels, float64 (n,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    length: NDArray[np.float64]

    def at(self, distance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the points (n, k) at distances (n, k) from the starts."""
        return self.x[:, None] + distance * np.cos(self.angle)[:, None], (
            self.y[:, None] + distance * np.sin(self.angle)[:, None]
        )


def frosted(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a piece of a pane, float32 (height, width), 0 to 1: which one, where and which side up is drawn."""
    pane = _pane(int(rng.integers(PANES)))
    top, left, flips = rng.integers(SIDE), rng.integers(SIDE), rng.integers(0, 2, 3)
    rows, columns = (top + np.arange(height)) % SIDE, (left + np.arange(width)) % SIDE
    piece: NDArray[np.float32] = (pane.T if flips[2] else pane)[rows[:, None], columns]
    return piece[:: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]


@cache
def _pane(number: int) -> NDArray[np.float32]:
    """Draw a pane, float32 (SIDE, SIDE), 0 to 1, the same one for the same number."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.Generator(np.random.PCG64([_FROST_TAG, number]))
    ice = _drawn(_ferns(rng))
    haze = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 12, mode="wrap")
    haze = (haze - haze.min()) / (haze.max() - haze.min())
    crystals = 1 - np.exp(-1.3 * gaussian_filter(ice, 0.5, mode="wrap"))
    pane: NDArray[np.float32] = (0.35 * haze + crystals).clip(0, 1).astype(np.float32)
    return pane


def _ferns(rng: np.random.Generator) -> list[Strokes]:
    """Return stems, branches and the branches of those."""
    x, y = rng.uniform(0, SIDE, (2, FERNS))
    tiers = [Strokes(x, y, rng.uniform(0, 2 * np.pi, FERNS), rng.uniform(*LENGTHS, FERNS))]
    for gap, share in TIERS:
        tiers.append(_branches(tiers[-1], gap, share))
    return tiers


def _branches(parents: Strokes, gap: float, share: float) -> Strokes:
    """Return pairs of branches along each parent, shorter towards its tip."""
    distance = np.tile(np.arange(gap, parents.length.max(), gap), (len(parents.length), 1))
    left = parents.length[:, None] - distance
    x, y = parents.at(distance)
    parent, place = np.nonzero(left > gap)
    turns = np.repeat(np.radians([-SPREAD_DEGREES, SPREAD_DEGREES]), len(parent))
    twice = (np.tile(parent, 2), np.tile(place, 2))
    return Strokes(x[twice], y[twice], parents.angle[twice[0]] + turns, share * left[twice])


def _drawn(tiers: list[Strokes]) -> NDArray[np.float64]:
    """Return how much ice lies on each pixel of a pane: the length of all strokes on it."""
    ice = np.zeros(SIDE * SIDE)
    for strokes in tiers:
        distance = np.linspace(0, 1, POINTS) * strokes.length[:, None]
        x, y = (np.rint(each).astype(np.int64) % SIDE for each in strokes.at(distance))
        amount = np.broadcast_to(strokes.length[:, None] / POINTS, x.shape)
        ice += np.bincount((y * SIDE + x).ravel(), amount.ravel(), SIDE * SIDE)
    return ice.reshape(SIDE, SIDE)
