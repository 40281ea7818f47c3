"""Images with labels, divided into a training and a test split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from .arguments import Kind, described, expanded, instance, require, takes
from .contract import IMAGE_SHAPE, fault_of_labels
from .errors import DataError, reason

if TYPE_CHECKING:  # `--help` needs this module without numpy, which is slow to import
    import numpy as np
    from numpy.typing import NDArray

CIFAR10_FINGERPRINT = "5dbb2c57cc9d3346ee41c71cf7f1f900ed7bd0c71302e2fa82bd9fcf940536e6"
"""Fingerprint of the official CIFAR-10 dataset."""
NAMED_SOURCES = frozenset(("cifar10", "synthetic"))
"""Names of built-in datasets."""
IMAGE_SIZE, LARGEST_IMAGE_SIZE = IMAGE_SHAPE[0], 256
"""Default and smallest, and largest height and width of the images of a folder, in pixels."""

SplitBy = Literal["content", "position"]
"""How the test split of a folder without one is chosen: by the bytes of each file, or by its position in the list.

Runs of earlier versions, whose record does not name a rule, used the position.
"""

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


@dataclass(frozen=True, eq=False)
class Split:
    """Images with labels. Instances are compared by identity.

    ``images`` is uint8 (n, height, width, 3), RGB, 0-255, possibly memory-mapped; ``labels`` is int32 (n,), indices
    into the class names; both become read-only views, since a dataset keeps its fingerprint. ``files`` has the names of
    the image files in the folder of the dataset, or is empty. Raises ``DataError`` for other shapes and dtypes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    files: tuple[str, ...] = ()

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
        for name in ("images", "labels"):
            view = vars(self)[name].view()
            view.flags.writeable = False
            vars(self)[name] = view  # the class is frozen

    def __len__(self) -> int:
        return len(self.images)

    def add_to(self, digest: hashlib._Hash) -> None:
        """Add shape, labels and pixels to a hash."""
        import numpy as np

        digest.update(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(np.ascontiguousarray(self.images).data)


PAIR = Kind(lambda value: isinstance(value, list | tuple) and len(value) == 2, "a pair: (images, labels)")


@dataclass(frozen=True)
class BrokenFile:
    """An image file that cannot be read: its path in the folder of the dataset, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Files that were skipped when a folder was read, and the number of copies among the others."""

    broken: tuple[BrokenFile, ...] = ()
    """Files that were skipped because they cannot be read."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Number of files without an image extension, by extension in lower case."""
    linked_folders: int = 0
    """Number of links to folders in the class folders, which are not followed."""
    unlabeled: int = 0
    """Number of image files beside the class folders, which have no class."""
    copies: int = 0
    """Number of images with the same pixels as an earlier one."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, a test split and the class names.

    Instances are compared by identity; compare fingerprints instead. Raises ``DataError`` for an invalid name, invalid
    class names, labels without a name, and splits of images of different sizes.
    """

    name: str
    train: Split
    test: Split
    labels: tuple[str, ...]
    source: str | None = field(default=None, init=False)
    """Name or absolute path passed to ``load_dataset``, or None. ``dataclasses.replace`` resets this and all fields
    below."""
    split_by: SplitBy | None = field(default=None, init=False)
    """How the test split was chosen, or None if it was given."""
    split_seed: int | None = field(default=None, init=False)
    """Seed of the test split or of the synthetic images, or None if neither is random."""
    image_size: int = field(default=IMAGE_SIZE, init=False)
    """Height and width passed to ``load_dataset``."""
    validation_images: int | None = field(default=None, init=False)
    """Number of validation images, the last ones of ``train``, or None if they are drawn from it."""
    reading: Reading = field(default=Reading(), init=False)
    """Files in the folder that were skipped."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise DataError(f"the name of the dataset is {self.name!r}; expected text: pass a str")
        if not isinstance(self.labels, list | tuple):  # a set has no order, that of a dict may differ from its values
            raise DataError(
                f"the class names of {self.name} are {described(self.labels)}; expected a list of names in the "
                "order of the labels: pass that"
            )
        for part in (self.train, self.test):
            require("a split", part, instance(Split, "a Split: make the dataset with Dataset.from_arrays"))
        vars(self).update(labels=tuple(self.labels))  # the class is frozen
        if fault := fault_of_labels(self.labels):
            raise DataError(f"{self.name} has {fault}")
        train, test = (part.images.shape[1:] for part in (self.train, self.test))
        if train != test:
            raise DataError(
                f"{self.name} has training images of shape {train} and test images of shape {test}; expected one "
                "shape: resize them"
            )
        for part in (self.train, self.test):
            if len(part) and not (part.labels.min() >= 0 and part.labels.max() < len(self.labels)):
                raise DataError(
                    f"{self.name} has labels {part.labels.min()} to {part.labels.max()}; expected 0 to "
                    f"{len(self.labels) - 1}: check the label file"
                )

    @classmethod
    @takes(train=PAIR, test=PAIR)
    def from_arrays(
        cls,
        train: tuple[NDArray[Any], NDArray[Any]],
        test: tuple[NDArray[Any], NDArray[Any]],
        class_names: Sequence[str],
        *,
        name: str = "arrays",
    ) -> Self:
        """Create a dataset from images and labels, as ``keras.datasets.cifar10.load_data()`` returns them.

        ``train`` and ``test`` are pairs of images, uint8 (n, height, width, 3), RGB, 0-255, and of integer labels (n,)
        or (n, 1), indices into ``class_names``. Images are not copied: do not change them. Raises ``DataError`` for
        other shapes, dtypes and labels.
        """
        return cls(name, _split(*train), _split(*test), class_names)  # type: ignore[arg-type]  # made a tuple there

    def opened_by(
        self,
        source: str,
        *,
        split_by: SplitBy | None = None,
        split_seed: int | None = None,
        image_size: int = IMAGE_SIZE,
        validation_images: int | None = None,
        reading: Reading | None = None,
    ) -> Dataset:
        """Return a copy that records the arguments of ``load_dataset`` that open it again, and the skipped files."""
        opened = replace(self)
        vars(opened).update(  # the class is frozen
            source=source,
            split_by=split_by,
            split_seed=split_seed,
            image_size=image_size,
            validation_images=validation_images,
            reading=reading or Reading(),
        )
        return opened

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over class names, shapes, labels and pixels of both splits, in order."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for part in (self.train, self.test):
            part.add_to(digest)
        return digest.hexdigest()


DATASET = instance(Dataset, "a Dataset: pass cifarnet.load_dataset(...) or cifarnet.Dataset.from_arrays(...)")


def _split(images: Any, labels: Any) -> Split:
    import numpy as np

    # In C order, since sums over other layouts are rounded differently.
    try:
        images, labels = np.asarray(images, order="C"), np.asarray(labels)
    except ValueError as error:  # of lists of different lengths
        raise DataError(
            f"the images are of different sizes ({reason(error)}); expected one size: resize them"
        ) from error
    is_column = labels.ndim == 2 and labels.shape[1] == 1
    labels = labels[:, 0] if is_column else labels
    fits = labels.dtype.kind in "iu" and np.array_equal(labels, labels.astype("int32"))
    return Split(images, labels.astype("int32") if fits else labels)


def durable(source: str | Path) -> str:
    """Return a name unchanged and a path as absolute, so that it is valid in any working directory."""
    return str(source) if source in NAMED_SOURCES else str(expanded(source).absolute())


class Progress(Protocol):
    """Progress callback while a dataset is downloaded or opened: phase, bytes done and total bytes.

    It is called from the thread that does the work; an exception that it raises stops the work.
    """

    def __call__(self, phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
        """Report progress; total_bytes is None while it is unknown."""


def silent(phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
    """Report nothing."""
