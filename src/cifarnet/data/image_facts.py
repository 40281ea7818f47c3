"""Facts about the images of a dataset: nearly one color, copies, near-copies, class sizes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cifarnet.dataset import Dataset

FLAT = 8
"""An image is flat if the range of each channel is below this. Observed 16-bit images of few levels have 0 to 3."""
UNEQUAL = 3
"""Ratio of two class sizes above which the accuracy says little about the smaller class; chosen manually."""
_SIDE = 8
"""Height and width of the average hash."""


def class_sizes(dataset: Dataset) -> list[int]:
    """Return the number of images of each class in both splits."""
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    return np.bincount(labels, minlength=len(dataset.labels)).tolist()


def is_unequal(sizes: Sequence[int]) -> bool:
    """Return whether the largest class is more than ``UNEQUAL`` times the size of the smallest one."""
    return max(sizes) > UNEQUAL * min(sizes)


def are_flat(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of ``images``, uint8 (n, height, width, 3), have nearly one color: bool (n,)."""
    if not len(images):
        return np.zeros(0, np.bool_)
    return (np.ptp(images, axis=(1, 2)) < FLAT).all(axis=1)


def average_hashes(images: NDArray[np.uint8]) -> list[bytes]:
    """Return the average hash of each of ``images``, uint8 (n, height, width, 3): 64 bits.

    Each bit is whether a cell of an 8x8 grid is brighter than the mean of the cells. Images that were saved again,
    scaled or slightly edited mostly have the same hash.
    """
    rows, columns = (np.arange(_SIDE) * side // _SIDE for side in images.shape[1:3])
    heights, widths = (
        np.diff(starts, append=side) for starts, side in zip((rows, columns), images.shape[1:3], strict=True)
    )
    areas = np.maximum(np.outer(heights, widths), 1)  # 0 in images smaller than the grid, whose cells are single pixels
    hashes = []
    for image in images:
        gray = image.mean(axis=2)
        cells = np.add.reduceat(np.add.reduceat(gray, rows, axis=0), columns, axis=1) / areas
        hashes.append(np.packbits(cells > cells.mean()).tobytes())
    return hashes


def groups(keys: Iterable[bytes], at: Iterable[int]) -> list[list[int]]:
    """Return the positions ``at`` of each key that occurs several times. ``keys`` are in the order of ``at``."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for position, key in zip(at, keys, strict=True):
        found[key].append(position)
    return [positions for positions in found.values() if len(positions) > 1]
