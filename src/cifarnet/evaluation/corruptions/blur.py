"""Defocus, glass, motion and zoom blur."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .pixels import Generators, Pixels, drawn

DISKS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
"""Radius of the disk and standard deviation of its smoothing per severity, in pixels."""
GLASSES = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
"""Standard deviation of the Gaussian blurs in pixels, and number of displacement rounds, per severity."""
MOTIONS = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
"""Radius and standard deviation of the motion blur per severity, in pixels."""
STEEPEST_DEGREES = 45
"""Maximum angle between the motion and the horizontal."""
ZOOM_STEPS = (7, 12, 16, 21, 26)
"""Number of averaged zoom factors (1, 1.01, …) per severity. As in CIFAR-10-C, rounding adds one to the first two."""
ZOOM_STEP = 0.01


def defocus_blur(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Blur with a smoothed disk kernel."""
    from scipy.ndimage import correlate

    kernel = _disk(*DISKS[severity - 1])
    return np.asarray(correlate(pixels, kernel[None, :, :, None], mode="mirror"))


def _disk(radius: float, softness: float) -> NDArray[np.float32]:
    from scipy.ndimage import correlate1d

    y, x = np.mgrid[-2:3, -2:3]
    disk = (x * x + y * y <= radius * radius).astype(np.float64)
    taps = np.exp(-np.square([-1.0, 0.0, 1.0]) / (2 * softness * softness))
    for axis in (0, 1):
        disk = correlate1d(disk, taps / taps.sum(), axis=axis, mode="constant")
    return np.asarray(disk / disk.sum(), np.float32)


def glass_blur(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Displace pixels randomly between two Gaussian blurs.

    Each pixel is copied from itself or from the pixel above, to the left, or both. The original code of CIFAR-10-C does
    the same: its swap of two pixels is a copy, because both are views of the same array.
    """
    from scipy.ndimage import gaussian_filter

    deviation, rounds = GLASSES[severity - 1]
    sigma = (0, deviation, deviation, 0)
    displaced = gaussian_filter(pixels, sigma, mode="nearest")
    for steps in np.moveaxis(drawn(rngs, lambda rng: rng.integers(0, 2, (rounds, 2, *pixels.shape[1:3]))), 1, 0):
        displaced = _displaced(displaced, steps.astype(np.int64))
    return np.asarray(gaussian_filter(displaced, sigma, mode="nearest"))


def _displaced(pixels: Pixels, steps: NDArray[np.int64]) -> Pixels:
    """Copy each pixel from ``steps``, (n, 2, h, w), 0 or 1, rows above and columns to the left."""
    height, width = pixels.shape[1:3]
    steps[:, :, :2], steps[:, :, :, :2] = 0, 0  # the first two rows and columns stay, as in CIFAR-10-C
    rows = np.arange(height)[:, None] - steps[:, 0]
    columns = np.arange(width) - steps[:, 1]
    return np.asarray(pixels[np.arange(len(pixels))[:, None, None], rows, columns])


def motion_blur(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Apply motion blur at a random angle of up to 45°."""
    angles = [rng.uniform(-STEEPEST_DEGREES, STEEPEST_DEGREES) for rng in rngs]
    return motion_blurred(pixels, *MOTIONS[severity - 1], angles)


def motion_blurred(pixels: Pixels, radius: int, deviation: float, angles: Sequence[float]) -> Pixels:
    """Blur each image (h, w, c) along a line at its angle in degrees.

    Like ImageMagick's motion blur: the kernel is half a Gaussian, 2 * radius + 1 pixels long, with edge padding.
    """
    length = 2 * radius + 1
    weights = np.exp(-np.square(np.arange(length) / deviation) / 2)
    weights /= weights.sum()
    padded = np.pad(pixels, [(0, 0), (length, length), (length, length), (0, 0)], mode="edge")
    return np.stack(
        [_blurred_along_line(each, weights, length, angle) for each, angle in zip(padded, angles, strict=True)]
    )


def _blurred_along_line(padded: NDArray[np.float32], weights: NDArray[np.float64], border: int, angle: float) -> Pixels:
    height, width = padded.shape[0] - 2 * border, padded.shape[1] - 2 * border
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    total = np.zeros((height, width, padded.shape[2]), np.float32)
    for step, weight in enumerate(weights.tolist()):
        top, left = border + math.ceil(step * down - 0.5), border + math.ceil(step * right - 0.5)
        total += np.float32(weight) * padded[top : top + height, left : left + width]
    return total


def zoom_blur(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Average the image with zoomed copies of itself."""
    factors = [1 + ZOOM_STEP * step for step in range(ZOOM_STEPS[severity - 1])]
    planes = np.ascontiguousarray(np.moveaxis(pixels, 3, 1))
    total = planes + sum(zoomed(planes, factor) for factor in factors)
    return np.moveaxis(total / np.float32(len(factors) + 1), 1, 3)


def zoomed(planes: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Zoom planes (…, h, w) into their center, with linear interpolation, and crop to the same size."""
    height, width = planes.shape[-2:]
    # One matrix product per plane, so that the result for a plane does not depend on the others.
    return np.asarray(_zoom_matrix(height, factor) @ planes @ _zoom_matrix(width, factor).T)


def _zoom_matrix(size: int, factor: float) -> NDArray[np.float32]:
    """Return the matrix (size, size) that zooms into a line of pixels.

    The first and last pixels of the line's center are mapped to those of the longer line (aligned corners).
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
