"""What happens to a picture once it is taken: contrast, warping, fewer pixels, compression."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .pixels import Generators, Pixels, drawn, to_bytes, to_pixels

CONTRASTS = (0.75, 0.5, 0.4, 0.3, 0.15)
"""Of the distance from the mean, what is left."""
WARPS = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Strength and smoothness of the waves, and how far the corners are pulled, as shares of the shorter side."""
WAVE_REACH = 3
"""Deviations after which the Gaussian that smooths the waves is cut off."""
SCALES = (0.95, 0.9, 0.85, 0.75, 0.65)
"""Of the sides of a picture with fewer pixels."""
QUALITIES = (80, 65, 58, 50, 40)
"""Of JPEG, 1 to 100."""
Fold = Callable[[NDArray[np.int64], int], NDArray[np.int64]]
"""Indices of any size and the number of pixels to indices of pixels."""


def contrast(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Move every channel towards its mean over the image."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    flatter: Pixels = mean + np.float32(CONTRASTS[severity - 1]) * (pixels - mean)
    return flatter


def elastic_transform(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Pull the image out of square, then lay it in waves."""
    shorter = min(pixels.shape[1:3])
    strength, smoothness, pull = (shorter * share for share in WARPS[severity - 1])
    rows, columns = _pulled(pixels.shape[1:3], drawn(rngs, lambda rng: rng.uniform(-pull, pull, (3, 2))))
    pulled = _sampled(pixels, rows, columns, _mirrored)
    waves = _waves(pixels.shape[1:3], strength, smoothness, rngs)
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]].astype(np.float32)
    return _sampled(pulled, y + waves[:, 0], x + waves[:, 1], _reflected)


def _pulled(shape: tuple[int, ...], pulls: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return from where each pixel comes, rows and columns (n, h, w), when three points move by ``pulls`` (n, 3, 2)."""
    middle, arm = np.array(shape) // 2, min(shape) // 3
    corners = middle + arm * np.array([(1, 1), (1, -1), (-1, -1)])
    moved = np.concatenate([corners + pulls.astype(np.float64), np.ones((len(pulls), 3, 1))], axis=2)
    affine = np.linalg.solve(moved, np.broadcast_to(corners.astype(np.float64), (len(pulls), 3, 2)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    rows, columns = (
        affine[:, 0, axis, None, None] * y + affine[:, 1, axis, None, None] * x + affine[:, 2, axis, None, None]
        for axis in (0, 1)
    )
    return rows.astype(np.float32), columns.astype(np.float32)


def _waves(shape: tuple[int, ...], strength: float, smoothness: float, rngs: Generators) -> NDArray[np.float32]:
    """Return by how much each pixel is displaced, down and to the right: (n, 2, h, w), pixels."""
    from scipy.ndimage import gaussian_filter

    noise = drawn(rngs, lambda rng: rng.uniform(-1, 1, (2, *shape)))
    smooth: NDArray[np.float32] = gaussian_filter(
        noise, (0, 0, smoothness, smoothness), mode="reflect", truncate=WAVE_REACH
    )
    return np.float32(strength) * smooth


def _sampled(pixels: Pixels, rows: NDArray[np.float32], columns: NDArray[np.float32], folded: Fold) -> Pixels:
    """Return each image at places (n, h, w) between its pixels, interpolated linearly; borders are ``folded``."""
    height, width = pixels.shape[1:3]
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top_index, left_index = top.astype(np.int64), left.astype(np.int64)
    flat = pixels.reshape(-1, pixels.shape[3])
    image = np.arange(len(pixels))[:, None, None] * (height * width)
    above, below = (image + folded(top_index + step, height) * width for step in (0, 1))
    before, after = (folded(left_index + step, width) for step in (0, 1))
    upper = flat[above + before] * (1 - right) + flat[above + after] * right
    lower = flat[below + before] * (1 - right) + flat[below + after] * right
    between: Pixels = upper * (1 - down) + lower * down
    return between


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices that turn back at the border's pixel: 2 1 0 1 2."""
    folded = index % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def _reflected(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices that turn back behind the border's pixel: 1 0 0 1 2."""
    folded = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def pixelate(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Make the picture smaller and large again, by the mean over boxes."""
    from PIL import Image

    height, width = pixels.shape[1:3]
    smaller = (int(width * SCALES[severity - 1]), int(height * SCALES[severity - 1]))
    box = Image.Resampling.BOX
    pictures = (Image.fromarray(each).resize(smaller, box).resize((width, height), box) for each in to_bytes(pixels))
    return to_pixels(np.stack([np.asarray(picture) for picture in pictures]))


def jpeg_compression(pixels: Pixels, severity: int, _rngs: Generators) -> Pixels:
    """Write the picture as JPEG and read it again."""
    return to_pixels(np.stack([_compressed(each, QUALITIES[severity - 1]) for each in to_bytes(pixels)]))


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))
