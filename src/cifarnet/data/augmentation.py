"""The order of the training images and their augmentation: pure functions of seed, epoch and image.

The augmentations are horizontal flip, random crop and cutout.
"""

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import TrainConfig

_ORDER_TAG, _FLIP_TAG, _CROP_TAG, _CUTOUT_TAG = 0x6F72_6465, 0x666C_6970, 0x7368_6966, 0x6375_746F
"""Separate these random streams from all others with the same seed (ASCII "orde", "flip", "shif", "cuto")."""
GRAY = 128
"""Fill value of cutout, 0-255."""


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the training images in an epoch: a permutation of ``range(count)``, int64 (count,).

    It depends only on seed and epoch, so a resumed run needs no generator state.
    """
    rng = np.random.Generator(np.random.PCG64([seed, _ORDER_TAG, epoch]))
    return rng.permutation(np.arange(count, dtype=np.int64))


class Augmentation:
    """Augments a training set of ``count`` images in one epoch (counted from 1), as ``config`` says.

    The random draws of an image belong to its position in the training set. So they depend neither on the batch order
    nor on resuming, and all frameworks see the same pixels.
    """

    def __init__(self, config: TrainConfig, count: int, epoch: int) -> None:
        self._padding = config.translation
        self._flipped = _flipped(config, count, epoch)
        rng = np.random.Generator(np.random.PCG64([config.seed, _CROP_TAG, epoch]))
        self._offsets = rng.integers(0, 2 * self._padding + 1, (2, count)) if self._padding else None
        self._cutout = config.cutout
        rng = np.random.Generator(np.random.PCG64([config.seed, _CUTOUT_TAG, epoch]))
        self._centers = rng.random((2, count)) if self._cutout else None

    def __call__(self, images: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Augment ``images``, uint8 (n, h, w, c), 0-255, at the ``positions`` (n,) of the training set.

        Returns new images of the same shape, dtype and range.
        """
        if self._flipped is not None:
            flipped = self._flipped[positions, None, None, None]
            images = np.where(flipped, images[:, :, ::-1], images)
        if self._offsets is not None:
            images = _cropped(images, self._padding, *self._offsets[:, positions])
        if self._centers is not None:
            images = _with_cutout(images, self._cutout, *self._centers[:, positions])
        return images


def _flipped(config: TrainConfig, count: int, epoch: int) -> NDArray[np.bool_] | None:
    """Return which images are flipped, bool (count,), or None if ``config`` has no flip."""
    if config.flip == "none":
        return None
    # Alternating flip (Jordan 2024): a random half of the images in odd epochs, the other half in even epochs.
    is_alternating = config.flip == "alternating"
    rng = np.random.Generator(np.random.PCG64([config.seed, _FLIP_TAG, 0 if is_alternating else epoch]))
    drawn: NDArray[np.bool_] = rng.integers(0, 2, count) == 1
    return ~drawn if is_alternating and epoch % 2 == 0 else drawn


def _cropped(
    images: NDArray[np.uint8], padding: int, tops: NDArray[np.int64], lefts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Pad ``images`` by reflection and crop each to its old size, starting at rows ``tops`` and columns ``lefts``."""
    count, height, width, channels = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")
    steps = padded.strides
    # All possible crops as a view, without a copy: each row of a crop is consecutive bytes.
    crops = np.lib.stride_tricks.as_strided(
        padded,
        (count, 2 * padding + 1, 2 * padding + 1, height, width * channels),
        (steps[0], steps[1], steps[2], steps[1], steps[3]),
        writeable=False,
    )
    return crops[np.arange(count), tops, lefts].reshape(images.shape)


def _with_cutout(
    images: NDArray[np.uint8], size: int, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Fill a gray square in each image, centered at fractions ``rows`` and ``columns`` of height and width.

    Near an edge, part of the square lies outside the image (DeVries and Taylor 2017).
    """
    is_row, is_column = (
        _within(length, size, centers) for length, centers in zip(images.shape[1:3], (rows, columns), strict=True)
    )
    is_cut = is_row[:, :, None] & is_column[:, None, :]
    return np.where(is_cut[..., None], np.uint8(GRAY), images)


def _within(length: int, size: int, centers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of ``length`` positions are within the ``size`` around ``centers``, bool (n, length)."""
    places = length + 1 - size % 2  # centers lie between pixels if the size is even
    first = np.floor(centers[:, None] * places) - size // 2
    positions = np.arange(length)
    return (positions >= first) & (positions < first + size)
