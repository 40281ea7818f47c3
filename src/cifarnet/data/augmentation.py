"""Random views of training images, each a pure function of seed, epoch and image."""

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import TrainConfig

_FLIP_TAG, _SHIFT_TAG, _CUT_TAG = 0x666C_6970, 0x7368_6966, 0x6375_746F
"""Keep these streams of random numbers apart from every other with the same seed (ASCII "flip", "shif", "cuto")."""
GREY = 128
"""What is cut out, 0-255."""


class Augmentation:
    """The views that ``config`` asks for, of a training set of ``count`` images in one epoch, counted from 1.

    Every image's draws are those at its position in the training set, so that neither the order of the images nor a
    resumed training changes them, and the three frameworks see the same pixels.
    """

    def __init__(self, config: TrainConfig, count: int, epoch: int) -> None:
        self._reach = config.translation
        self._flipped = _flipped(config, count, epoch)
        rng = np.random.Generator(np.random.PCG64([config.seed, _SHIFT_TAG, epoch]))
        self._shifts = rng.integers(0, 2 * self._reach + 1, (2, count)) if self._reach else None
        self._cutout = config.cutout
        rng = np.random.Generator(np.random.PCG64([config.seed, _CUT_TAG, epoch]))
        self._centres = rng.random((2, count)) if self._cutout else None

    def __call__(self, images: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return views of ``images``, uint8 (n, h, w, c), 0-255, which stand at ``positions`` (n,) of the training set.

        They have the same shape, dtype and range.
        """
        if self._flipped is not None:
            flipped = self._flipped[positions, None, None, None]
            images = np.where(flipped, images[:, :, ::-1], images)
        if self._shifts is not None:
            images = _shifted(images, self._reach, *self._shifts[:, positions])
        if self._centres is not None:
            images = _cut(images, self._cutout, *self._centres[:, positions])
        return images


def _flipped(config: TrainConfig, count: int, epoch: int) -> NDArray[np.bool_] | None:
    """Return which images are mirrored, bool (count,), or nothing where none is."""
    if config.flip == "none":
        return None
    # Alternating (Jordan 2024): half of the images, by chance, in the first epoch, then the other half, and so on.
    is_alternating = config.flip == "alternating"
    rng = np.random.Generator(np.random.PCG64([config.seed, _FLIP_TAG, 0 if is_alternating else epoch]))
    drawn: NDArray[np.bool_] = rng.integers(0, 2, count) == 1
    return ~drawn if is_alternating and epoch % 2 == 0 else drawn


def _shifted(
    images: NDArray[np.uint8], reach: int, tops: NDArray[np.int64], lefts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return the views of ``images`` that begin at rows ``tops`` and columns ``lefts``, once padded by ``reach``."""
    count, height, width, channels = images.shape
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    steps = padded.strides
    # Every view that there is, without a copy: a row of one is consecutive bytes.
    views = np.lib.stride_tricks.as_strided(
        padded,
        (count, 2 * reach + 1, 2 * reach + 1, height, width * channels),
        (steps[0], steps[1], steps[2], steps[1], steps[3]),
        writeable=False,
    )
    return views[np.arange(count), tops, lefts].reshape(images.shape)


def _cut(
    images: NDArray[np.uint8], size: int, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return ``images`` with a grey square each, around fractions ``rows`` and ``columns`` of height and width.

    Near an edge a part of it is outside (DeVries and Taylor 2017).
    """
    is_row, is_column = (
        _within(length, size, centres) for length, centres in zip(images.shape[1:3], (rows, columns), strict=True)
    )
    is_cut = is_row[:, :, None] & is_column[:, None, :]
    return np.where(is_cut[..., None], np.uint8(GREY), images)


def _within(length: int, size: int, centres: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of ``length`` positions are among the ``size`` around ``centres``, bool (n, length)."""
    places = length + 1 - size % 2  # between positions where the size is even, else on them
    first = np.floor(centres[:, None] * places) - size // 2
    positions = np.arange(length)
    return (positions >= first) & (positions < first + size)
