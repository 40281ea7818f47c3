"""Weather: snow, frost, fog and brightness."""

import numpy as np
from numpy.typing import NDArray

from .blur import motion_blurred, zoomed
from .frost import ICE, frost_texture
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


def snow(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Whiten the image and add motion-blurred flakes, and the same flakes rotated by 180°."""
    mean, deviation, size, threshold, radius, fall, kept = FLAKES[severity - 1]
    flakes = zoomed(drawn(rngs, lambda rng: rng.normal(mean, deviation, pixels.shape[1:3])), size)
    flakes = np.where(flakes < threshold, np.float32(0), np.minimum(flakes, np.float32(1)))
    angles = [rng.uniform(*SLANTS_DEGREES) for rng in rngs]
    falling = motion_blurred(flakes[..., None], int(radius), fall, angles)
    whitened = np.maximum(pixels, (pixels @ LUMA_WEIGHTS)[..., None] * np.float32(1.5) + np.float32(0.5))
    scene = np.float32(kept) * pixels + np.float32(1 - kept) * whitened
    snowed: Pixels = scene + falling + falling[:, ::-1, ::-1]
    return snowed


def frost(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Overlay a generated frost texture."""
    scene, ice = RIMES[severity - 1]
    plates = np.stack([frost_texture(pixels.shape[1], pixels.shape[2], rng) for rng in rngs])
    return np.float32(scene) * pixels + np.float32(ice) * plates[..., None] * ICE


def fog(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add a cloud texture, and rescale to keep the maximum value."""
    thickness, decay = FOGS[severity - 1]
    height, width = pixels.shape[1:3]
    cloud = clouds(rngs, max(height, width), decay)[:, :height, :width, None]
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    fogged: Pixels = (pixels + np.float32(thickness) * cloud) * (brightest / (brightest + np.float32(thickness)))
    return fogged


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
    glaring: Pixels = np.where(value > 0, pixels * (brighter / np.maximum(value, np.finfo(np.float32).tiny)), brighter)
    return glaring
