"""The published arrays of CIFAR-10-C (https://zenodo.org/records/2535967), read from a folder of .npy files.

Each ``{corruption}.npy`` has the test images at severity 1, then at severity 2 and so on; ``labels.npy`` has their
labels, which are the same for each severity.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.dataset import CIFAR10_FINGERPRINT, Dataset
from cifarnet.errors import DataError, reason

from . import FAMILIES, SEVERITIES

PUBLISHED = "published arrays of CIFAR-10-C (Hendrycks and Dietterich 2019), https://zenodo.org/records/2535967"
"""Note stored with results on these images."""
EXTRA_FAMILIES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Names of the additional corruptions, which the mean over the standard corruptions leaves out."""
LABELS = "labels.npy"


def open_published(folder: Path, dataset: Dataset) -> dict[str, NDArray[np.uint8]]:
    """Return the arrays in ``folder``, which show the test images of ``dataset`` in their order, by corruption.

    Each is memory-mapped, uint8 (5 * images, 32, 32, 3), RGB: the standard corruptions, then additional ones.
    Raises ``DataError`` for missing files, other shapes, dtypes or labels, and a dataset other than CIFAR-10.
    """
    if dataset.fingerprint != CIFAR10_FINGERPRINT:
        raise DataError(
            f"{dataset.name} has the fingerprint {dataset.fingerprint[:12]}; expected {CIFAR10_FINGERPRINT[:12]}, "
            "CIFAR-10, whose test images the arrays of --cifar10c show: add --data cifar10, or leave out --cifar10c"
        )
    _require_labels(folder / LABELS, dataset)
    extra = [name for name in EXTRA_FAMILIES if (folder / f"{name}.npy").is_file()]
    shape = (len(SEVERITIES) * len(dataset.test), *dataset.test.images.shape[1:])
    return {name: _images(folder / f"{name}.npy", shape) for name in (*FAMILIES, *extra)}


def _require_labels(path: Path, dataset: Dataset) -> None:
    expected = np.tile(dataset.test.labels, len(SEVERITIES))
    if not np.array_equal(found := _opened(path), expected):
        raise DataError(
            f"{path} has dtype {found.dtype} and shape {found.shape}; expected the {len(expected)} test labels of "
            f"{dataset.name} in their order at five severities: download it again"
        )


def _images(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    found = _opened(path)
    if found.dtype != np.uint8 or found.shape != shape:
        raise DataError(
            f"{path} has dtype {found.dtype} and shape {found.shape}; expected uint8 {shape}: download it again"
        )
    return found


def _opened(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({reason(error)}); expected an array of CIFAR-10-C: extract CIFAR-10-C.tar there"
        ) from error
