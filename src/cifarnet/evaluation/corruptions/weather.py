"""Weather: snow, frost, fog and brightness.

CIFAR-10-C overlays photographs of frost, which this package does not contain: the textures here, branching ice crystals
under a thin haze, are generated. Results for frost can therefore not be compared directly with published ones.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .blur import motion_blurred, zoomed
from .pixels import Generators, Pixels, drawn

FLAKES = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
"""Per severity: mean and standard deviation of the flakes' brightness, their scale and threshold; radius and standard
deviation of the motion blur in pixels; weight of the image's own colors."""
SLANTS_DEGREES = (-135, -45)
"""Range of the flakes' direction."""
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luma (ITU-R BT.601)."""
RIMES = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
"""Weights of the image and of the ice, per severity."""
FOGS = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
"""Strength of the fog and its decay, per severity; see ``clouds``."""
GLARES = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Increase of the HSV value per severity, as a fraction of its maximum."""
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


def snow(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Whiten the image and add motion-blurred flakes, and the same flakes rotated by 180°."""
    mean, deviation, size, threshold, radius, fall, kept = FLAKES[severity - 1]
    flakes = zoomed(drawn(rngs, lambda rng: rng.normal(mean, deviation, pixels.shape[1:3])), size)
    flakes = np.where(flakes < threshold, np.float32(0), np.minimum(flakes, np.float32(1)))
    angles = [rng.uniform(*SLANTS_DEGREES) for rng in rngs]
    falling = motion_blurred(flakes[..., None], int(radius), fall, angles)
    whitened = np.maximum(pixels, (pixels @ LUMA_WEIGHTS)[..., None] * np.float32(1.5) + np.float32(0.5))
    scene = np.float32(kept) * pixels + np.float32(1 - kept) * whitened
    return np.asarray(scene + falling + falling[:, ::-1, ::-1])


def frost(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Overlay a generated frost texture."""
    scene, ice = RIMES[severity - 1]
    plates = np.stack([frost_texture(pixels.shape[1], pixels.shape[2], rng) for rng in rngs])
    return np.float32(scene) * pixels + np.float32(ice) * plates[..., None] * ICE


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
    return np.asarray((0.35 * haze + crystals).clip(0, 1), np.float32)


def _crystals(rng: np.random.Generator) -> list[Strokes]:
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


def fog(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add a cloud texture, and rescale to keep the maximum value."""
    thickness, decay = FOGS[severity - 1]
    height, width = pixels.shape[1:3]
    cloud = clouds(rngs, max(height, width), decay)[:, :height, :width, None]
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((pixels + np.float32(thickness) * cloud) * (brightest / (brightest + np.float32(thickness))))


def clouds(rngs: Generators, side: int, decay: float) -> NDArray[np.float32]:
    """Generate a cloud texture per generator: float32 (n, m, m), 0 to 1, where m is ``side`` or the next power of two.

    The diamond-square algorithm (Fournier, Fussell and Carpenter 1982) on a torus: each point is the mean of four
    neighbors plus noise, whose amplitude is divided by ``decay`` squared at each finer grid.
    """
    size = 1 << (side - 1).bit_length()
    noise = drawn(rngs, lambda rng: rng.uniform(-1, 1, (size, size)))
    heights, step, amount = np.zeros_like(noise), size, 1.0
    while step > 1:
        _refine(heights, noise * np.float32(amount), step)
        step, amount = step // 2, amount / decay**2
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


def _refine(heights: NDArray[np.float32], noise: NDArray[np.float32], step: int) -> None:
    """Fill in the points half a step away from the known points."""
    known, half = slice(None, None, step), slice(step // 2, None, step)
    corners = heights[:, known, known]
    below = corners + np.roll(corners, -1, axis=1)
    centers = heights[:, half, half] = (below + np.roll(below, -1, axis=2)) / 4 + noise[:, half, half]
    beside = corners + np.roll(corners, -1, axis=2) + centers + np.roll(centers, 1, axis=1)
    heights[:, known, half] = beside / 4 + noise[:, known, half]
    heights[:, half, known] = (below + centers + np.roll(centers, 1, axis=2)) / 4 + noise[:, half, known]


def brightness(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Increase the value in HSV color space."""
    value = pixels.max(axis=3, keepdims=True)
    brighter = np.minimum(value + np.float32(GLARES[severity - 1]), np.float32(1))
    # Scaling all channels by one factor keeps hue and saturation. Black has neither and becomes gray.
    return np.asarray(np.where(value > 0, pixels * (brighter / np.maximum(value, np.finfo(np.float32).tiny)), brighter))
