"""Digital corruptions: contrast, elastic transform, pixelation and JPEG compression."""

import io

import numpy as np
from numpy.typing import NDArray

from .pixels import Generators, Pixels, drawn, to_bytes, to_pixels

CONTRASTS = (0.75, 0.5, 0.4, 0.3, 0.15)
"""Contrast factor per severity."""
WARPS = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Strength and smoothness of the displacement and maximum shift of the corners, per severity, relative to the shorter
side."""
TRUNCATE = 3
"""Truncation of the smoothing Gaussian, in standard deviations."""
SCALES = (0.95, 0.9, 0.85, 0.75, 0.65)
"""Relative height and width of the downsampled image, per severity."""
QUALITIES = (80, 65, 58, 50, 40)
"""JPEG quality per severity, 1 to 100."""


def contrast(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Reduce the distance of each channel from its mean over the image."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    return np.asarray(mean + np.float32(CONTRASTS[severity - 1]) * (pixels - mean))


def elastic_transform(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Apply a random affine transform and a smooth random displacement."""
    shorter = min(pixels.shape[1:3])
    strength, smoothness, pull = (shorter * share for share in WARPS[severity - 1])
    rows, columns = _affine(pixels.shape[1:3], drawn(rngs, lambda rng: rng.uniform(-pull, pull, (3, 2))))
    transformed = _sampled(pixels, rows, columns, repeats=0)
    displacement = _displacement(pixels.shape[1:3], strength, smoothness, rngs)
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]].astype(np.float32)
    return _sampled(transformed, y + displacement[:, 0], x + displacement[:, 1], repeats=1)


def _affine(shape: tuple[int, ...], pulls: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the source rows and columns (n, h, w) of an affine map that moves three points by ``pulls`` (n, 3, 2)."""
    middle, arm = np.array(shape) // 2, min(shape) // 3
    corners = middle + arm * np.array([(1, 1), (1, -1), (-1, -1)])
    moved = np.concatenate([corners + pulls.astype(np.float64), np.ones((len(pulls), 3, 1))], axis=2)
    matrices = np.linalg.solve(moved, np.broadcast_to(corners.astype(np.float64), (len(pulls), 3, 2)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    rows, columns = (
        matrices[:, 0, axis, None, None] * y + matrices[:, 1, axis, None, None] * x + matrices[:, 2, axis, None, None]
        for axis in (0, 1)
    )
    return rows.astype(np.float32), columns.astype(np.float32)


def _displacement(shape: tuple[int, ...], strength: float, smoothness: float, rngs: Generators) -> NDArray[np.float32]:
    """Return the displacement of each pixel, down and to the right, in pixels: (n, 2, h, w)."""
    from scipy.ndimage import gaussian_filter

    noise = drawn(rngs, lambda rng: rng.uniform(-1, 1, (2, *shape)))
    smooth = gaussian_filter(noise, (0, 0, smoothness, smoothness), mode="reflect", truncate=TRUNCATE)
    return np.asarray(np.float32(strength) * smooth)


def _sampled(pixels: Pixels, rows: NDArray[np.float32], columns: NDArray[np.float32], *, repeats: int) -> Pixels:
    """Sample each image at fractional coordinates (n, h, w) with linear interpolation; for borders see ``_folded``."""
    height, width = pixels.shape[1:3]
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top_index, left_index = top.astype(np.int64), left.astype(np.int64)
    flat = pixels.reshape(-1, pixels.shape[3])
    image = np.arange(len(pixels))[:, None, None] * (height * width)
    above, below = (image + _folded(top_index + step, height, repeats) * width for step in (0, 1))
    before, after = (_folded(left_index + step, width, repeats) for step in (0, 1))
    upper = flat[above + before] * (1 - right) + flat[above + after] * right
    lower = flat[below + before] * (1 - right) + flat[below + after] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _folded(index: NDArray[np.int64], size: int, repeats: int) -> NDArray[np.int64]:
    """Mirror indices at the border: 2 1 0 1 2 with ``repeats`` 0, 1 0 0 1 2 with 1."""
    period = 2 * (size - 1 + repeats)
    folded = index % period
    return np.minimum(folded, period - repeats - folded)


def pixelate(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Downsample and upsample with a box filter."""
    from PIL import Image

    height, width = pixels.shape[1:3]
    smaller = (int(width * SCALES[severity - 1]), int(height * SCALES[severity - 1]))
    box = Image.Resampling.BOX
    resized = (Image.fromarray(each).resize(smaller, box).resize((width, height), box) for each in to_bytes(pixels))
    return to_pixels(np.stack([np.asarray(image) for image in resized]))


def jpeg_compression(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Compress and decompress as JPEG."""
    return to_pixels(np.stack([_compressed(each, QUALITIES[severity - 1]) for each in to_bytes(pixels)]))


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))
