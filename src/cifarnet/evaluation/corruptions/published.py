"""The published arrays of CIFAR-10-C (https://zenodo.org/records/2535967), read from a folder of .npy files.

Each ``{corruption}.npy`` has the test images at severity 1, then at severity 2 and so on; ``labels.npy`` has their
labels, which are the same for each severity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.dataset import CIFAR10_FINGERPRINT, CIFAR10_LABELS, Dataset
from cifarnet.errors import DataError, reason

from . import FAMILIES, SEVERITIES

PUBLISHED = "published arrays of CIFAR-10-C (Hendrycks and Dietterich 2019), https://zenodo.org/records/2535967"
"""Note stored with results on these images."""
EXTRA_FAMILIES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Names of the additional corruptions, which the mean over the standard corruptions leaves out."""
LABELS = "labels.npy"


@dataclass(frozen=True, eq=False)
class PublishedImages:
    """Memory-mapped images by corruption, uint8 (5 * images, 32, 32, 3), RGB."""

    images: int
    """Number of images per severity."""
    families: Mapping[str, NDArray[np.uint8]]
    """The standard corruptions in the order of the paper, then the additional ones that are present."""

    def at(self, indices: NDArray[np.int64], family: str, severity: int) -> NDArray[np.uint8]:
        """Return the images at ``indices`` of the test split with a corruption at ``severity``, 1 to 5."""
        return np.asarray(self.families[family][(severity - 1) * self.images + indices])


def open_published(folder: Path, dataset: Dataset) -> PublishedImages:
    """Open the arrays in ``folder``, which show the test images of ``dataset`` in their order.

    Raises ``DataError`` for missing files, other shapes, dtypes or labels, and a dataset other than CIFAR-10.
    """
    if dataset.labels != CIFAR10_LABELS:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.labels)}; expected {', '.join(CIFAR10_LABELS)}: "
            "evaluate a model of CIFAR-10, or leave out --cifar10c"
        )
    if dataset.fingerprint != CIFAR10_FINGERPRINT:
        raise DataError(
            f"{dataset.name} has the fingerprint {dataset.fingerprint[:12]}; expected {CIFAR10_FINGERPRINT[:12]}, "
            "CIFAR-10, whose test images the arrays of --cifar10c show: add --data cifar10, or leave out --cifar10c"
        )
    _require_labels(folder / LABELS, dataset)
    extra = [name for name in EXTRA_FAMILIES if (folder / f"{name}.npy").is_file()]
    count = len(dataset.test)
    shape = (len(SEVERITIES) * count, *dataset.test.images.shape[1:])
    families = {name: _images(folder / f"{name}.npy", shape) for name in (*FAMILIES, *extra)}
    return PublishedImages(count, families)


def _require_labels(path: Path, dataset: Dataset) -> None:
    found, count = _opened(path), len(dataset.test)
    if found.shape != (len(SEVERITIES) * count,) or found.dtype.kind not in "iu":
        raise DataError(
            f"{path} has dtype {found.dtype} and shape {found.shape}; expected {len(SEVERITIES) * count} integers, "
            f"the labels of the {count} test images of {dataset.name} at five severities: download it again"
        )
    if differing := int(np.count_nonzero(found != np.tile(dataset.test.labels, len(SEVERITIES)))):
        raise DataError(
            f"{path} differs from the test labels of {dataset.name} for {differing} of {len(found)} images; expected "
            "the labels of CIFAR-10 in their order: download it again"
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
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({reason(error)}); expected an array of CIFAR-10-C: extract CIFAR-10-C.tar there"
        ) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise DataError(f"{path} is an .npz archive; expected a single array: extract CIFAR-10-C.tar there")
    return found
