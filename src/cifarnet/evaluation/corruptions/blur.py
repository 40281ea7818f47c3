"""What a lens, a pane of glass or a moving camera does: blur."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .pixels import Generators, Pixels, drawn

DISKS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
"""Radius of the disk and deviation of the Gaussian that softens its rim, pixels."""
PANES = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
"""Deviation of the Gaussian before and after, pixels, and how often the pixels are displaced, by one at most."""
MOTIONS = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
"""Radius and deviation of the trace, pixels."""
STEEPEST_DEGREES = 45
"""Of a moving camera, against the horizon."""
ZOOM_STEPS = (7, 12, 16, 21, 26)
"""Number of zoom factors that are averaged: 1, 1.01, 1.02 … The first two are one more than was meant, by rounding."""
ZOOM_STEP = 0.01


def defocus_blur(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Spread each pixel over a disk with a soft rim."""
    from scipy.ndimage import correlate

    kernel = _disk(*DISKS[severity - 1])
    blurred: Pixels = correlate(pixels, kernel[None, :, :, None], mode="mirror")
    return blurred


def _disk(radius: float, softness: float) -> NDArray[np.float32]:
    """Return a disk as a kernel (5, 5) of sum 1, its rim softened over the pixels next to it."""
    from scipy.ndimage import correlate1d

    y, x = np.mgrid[-2:3, -2:3]
    disk = (x * x + y * y <= radius * radius).astype(np.float64)
    taps = np.exp(-np.square([-1.0, 0.0, 1.0]) / (2 * softness * softness))
    for axis in (0, 1):
        disk = correlate1d(disk, taps / taps.sum(), axis=axis, mode="constant")
    kernel: NDArray[np.float32] = (disk / disk.sum()).astype(np.float32)
    return kernel


def glass_blur(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Displace pixels at random between two slight Gaussian blurs.

    Each pixel takes the colour of one that lies up to a step above it, to the left of it, or both. The published images
    are made so: the swap that their program intends copies, since both sides of it see the same memory.
    """
    from scipy.ndimage import gaussian_filter

    deviation, rounds = PANES[severity - 1]
    sigma = (0, deviation, deviation, 0)
    displaced = gaussian_filter(pixels, sigma, mode="nearest")
    for steps in np.moveaxis(drawn(rngs, lambda rng: rng.integers(0, 2, (rounds, 2, *pixels.shape[1:3]))), 1, 0):
        displaced = _displaced(displaced, steps.astype(np.int64))
    blurred: Pixels = gaussian_filter(displaced, sigma, mode="nearest")
    return blurred


def _displaced(pixels: Pixels, steps: NDArray[np.int64]) -> Pixels:
    """Return pixels of which each is taken ``steps`` (n, 2, h, w), 0 or 1, from above and from the left."""
    height, width = pixels.shape[1:3]
    steps[:, :, :2], steps[:, :, :, :2] = 0, 0  # two rows and two columns stay, as in the published images
    rows = np.arange(height)[:, None] - steps[:, 0]
    columns = np.arange(width) - steps[:, 1]
    displaced: Pixels = pixels[np.arange(len(pixels))[:, None, None], rows, columns]
    return displaced


def motion_blur(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Move the camera along a line that is 45° steep at most."""
    angles = [rng.uniform(-STEEPEST_DEGREES, STEEPEST_DEGREES) for rng in rngs]
    return dragged(pixels, *MOTIONS[severity - 1], angles)


def dragged(pixels: Pixels, radius: int, deviation: float, angles: Sequence[float]) -> Pixels:
    """Blur each image (h, w, c) along a line at an angle in degrees of its own.

    As ImageMagick's motion blur: one half of a Gaussian, 2 * radius + 1 pixels long, the border's pixels repeated.
    """
    length = 2 * radius + 1
    weights = np.exp(-np.square(np.arange(length) / deviation) / 2)
    weights /= weights.sum()
    padded = np.pad(pixels, [(0, 0), (length, length), (length, length), (0, 0)], mode="edge")
    return np.stack([_traced(each, weights, length, angle) for each, angle in zip(padded, angles, strict=True)])


def _traced(padded: NDArray[np.float32], weights: NDArray[np.float64], border: int, angle: float) -> Pixels:
    """Return the weighted sum of one image, with a border all around, at the steps along a line."""
    height, width = padded.shape[0] - 2 * border, padded.shape[1] - 2 * border
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    total = np.zeros((height, width, padded.shape[2]), np.float32)
    for step, weight in enumerate(weights.tolist()):
        top, left = border + math.ceil(step * down - 0.5), border + math.ceil(step * right - 0.5)
        total += np.float32(weight) * padded[top : top + height, left : left + width]
    return total


def zoom_blur(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Average the image with itself under growing zoom."""
    factors = [1 + ZOOM_STEP * step for step in range(ZOOM_STEPS[severity - 1])]
    planes = np.ascontiguousarray(np.moveaxis(pixels, 3, 1))
    total = planes + sum(zoomed(planes, factor) for factor in factors)
    return np.moveaxis(total / np.float32(len(factors) + 1), 1, 3)


def zoomed(planes: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Return planes (…, h, w) enlarged about their centre, by linear interpolation, and cropped to their own size."""
    height, width = planes.shape[-2:]
    # One multiplication per plane: each comes out the same whichever others are with it.
    enlarged: NDArray[np.float32] = np.matmul(np.matmul(_zoom(height, factor), planes), _zoom(width, factor).T)
    return enlarged


def _zoom(size: int, factor: float) -> NDArray[np.float32]:
    """Return what enlarges a line of pixels, as a matrix (size, size).

    The middle of the line is stretched so that its first and last pixel come to lie on those of the longer line.
    """
    kept = math.ceil(size / factor)
    longer = round(kept * factor)
    position = (np.arange(size) + (longer - size) // 2) * (kept - 1) / (longer - 1)
    low = np.minimum(np.floor(position).astype(np.int64), kept - 2)
    matrix = np.zeros((size, size), np.float32)
    rows, first = np.arange(size), (size - kept) // 2
    matrix[rows, first + low] = 1 - (position - low)
    matrix[rows, first + low + 1] = position - low
    return matrix
