"""The contract that the stages share: image shape, class names and the value types between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .errors import DataError

if TYPE_CHECKING:  # the help reads the image shape here and has no time for numpy
    import numpy as np
    from numpy.typing import NDArray

IMAGE_SHAPE = (32, 32, 3)
"""Height, width, channels of one image: uint8, RGB, 0-255."""

CIFAR10_LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""Class names in the order of the official ``batches.meta.txt``."""


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    ``images`` is uint8 (n, height, width, 3), RGB, 0-255, possibly memory-mapped; ``labels`` is int32 (n,),
    each an index into the class names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.images.dtype != "uint8" or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise DataError(
                f"images have dtype {self.images.dtype} and shape {self.images.shape}; expected uint8 "
                "(n, height, width, 3): pass RGB pixels 0-255, channels last"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype != "int32":
            raise DataError(
                f"labels have dtype {self.labels.dtype} and shape {self.labels.shape}; expected int32 "
                f"({len(self.images)},): pass one label per image"
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A training split, a test split and the names of their classes."""

    name: str
    train: Split
    test: Split
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise DataError(f"{self.name} has {len(self.labels)} class; expected at least 2: add a class folder")
        for part in (self.train, self.test):
            if len(part) and not (part.labels.min() >= 0 and part.labels.max() < len(self.labels)):
                raise DataError(
                    f"{self.name} has labels {part.labels.min()} to {part.labels.max()}; expected 0 to "
                    f"{len(self.labels) - 1}: check the label file"
                )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over class names, shapes, labels and pixels of both splits, in order."""
        import numpy as np

        digest = hashlib.sha256("\0".join(self.labels).encode())
        for part in (self.train, self.test):
            digest.update(repr(part.images.shape).encode())
            digest.update(np.ascontiguousarray(part.labels).data)
            digest.update(np.ascontiguousarray(part.images).data)
        return digest.hexdigest()
