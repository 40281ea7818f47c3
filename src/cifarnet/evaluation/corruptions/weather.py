"""Snow, frost, fog and glare.

Clouds are grown by the diamond-square algorithm; for the photographs of frost that the published images are overlaid
with, see ``frost.py``.
"""

import numpy as np
from numpy.typing import NDArray

from .blur import dragged, zoomed
from .frost import ICE, frosted
from .pixels import Generators, Pixels, drawn

FLAKES = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
"""Mean and deviation of the flakes' brightness, their size, the brightness from which one is seen; radius and deviation
of their fall, pixels; the share of the scene that keeps its colours."""
SLANTS_DEGREES = (-135, -45)
"""Between which flakes fall."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""What red, green and blue add to brightness (ITU-R BT.601)."""
RIMES = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
"""How much of the scene and of the ice is seen."""
FOGS = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
"""Thickness of the fog, and by the square of what its unevenness falls when the scale is halved."""
GLARES = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Added to the brightness, as a fraction of the largest."""


def snow(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Whiten the scene and let flakes fall over it, each layer once more upside down."""
    mean, deviation, size, seen_from, radius, fall, kept = FLAKES[severity - 1]
    flakes = zoomed(drawn(rngs, lambda rng: rng.normal(mean, deviation, pixels.shape[1:3])), size)
    flakes = np.where(flakes < seen_from, np.float32(0), np.minimum(flakes, np.float32(1)))
    angles = [rng.uniform(*SLANTS_DEGREES) for rng in rngs]
    falling = dragged(flakes[..., None], int(radius), fall, angles)
    whitened = np.maximum(pixels, (pixels @ GREY)[..., None] * np.float32(1.5) + np.float32(0.5))
    scene = np.float32(kept) * pixels + np.float32(1 - kept) * whitened
    snowed: Pixels = scene + falling + falling[:, ::-1, ::-1]
    return snowed


def frost(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Lay a piece of a drawn pane of ice over the scene."""
    scene, ice = RIMES[severity - 1]
    plates = np.stack([frosted(pixels.shape[1], pixels.shape[2], rng) for rng in rngs])
    return np.float32(scene) * pixels + np.float32(ice) * plates[..., None] * ICE


def fog(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add an uneven cloud, and darken the whole so that the brightest value stays."""
    thickness, decay = FOGS[severity - 1]
    height, width = pixels.shape[1:3]
    cloud = clouds(rngs, max(height, width), decay)[:, :height, :width, None]
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    fogged: Pixels = (pixels + np.float32(thickness) * cloud) * (brightest / (brightest + np.float32(thickness)))
    return fogged


def clouds(rngs: Generators, side: int, decay: float) -> NDArray[np.float32]:
    """Grow a cloud per generator: float32 (n, m, m), 0 to 1, m the next power of two from ``side`` on.

    Diamond-square (Fournier, Fussell and Carpenter 1982) on a torus: each point is the mean of four neighbours and a
    random amount, which falls by the square of ``decay`` whenever the grid is made finer.
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
    """Fill in the points half a step away from those that are known."""
    known, half = slice(None, None, step), slice(step // 2, None, step)
    corners = heights[:, known, known]
    below = corners + np.roll(corners, -1, axis=1)
    centres = heights[:, half, half] = (below + np.roll(below, -1, axis=2)) / 4 + noise[:, half, half]
    beside = corners + np.roll(corners, -1, axis=2) + centres + np.roll(centres, 1, axis=1)
    heights[:, known, half] = beside / 4 + noise[:, known, half]
    heights[:, half, known] = (below + centres + np.roll(centres, 1, axis=2)) / 4 + noise[:, half, known]


def brightness(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Add to the value of hue, saturation and value."""
    value = pixels.max(axis=3, keepdims=True)
    brighter = np.minimum(value + np.float32(GLARES[severity - 1]), np.float32(1))
    # Hue and saturation stay where all channels grow by one factor; black has neither and becomes grey.
    glaring: Pixels = np.where(value > 0, pixels * (brighter / np.maximum(value, np.finfo(np.float32).tiny)), brighter)
    return glaring
