"""The contract that the stages share: image shape, class names, the model file, and the value types between them."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from .errors import DataError, UsageError

if TYPE_CHECKING:  # the help reads the image shape here and has no time for numpy
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, int, int]
"""Height, width and channels of one image."""

IMAGE_SHAPE = (32, 32, 3)
"""Height, width, channels of one image: uint8, RGB, 0-255."""

NAMED_SOURCES = frozenset(("cifar10", "synthetic"))
"""Data sets that everybody can open by their name."""

SplitBy = Literal["content", "position"]
"""Rule that draws the test part of a folder without one: by each file's bytes, or by its place among the others.

The second is that of runs whose record does not name a rule, as earlier versions wrote them.
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

RECIPE: Final[Mapping[str, str | int]] = {
    "orientation": "exif",
    "frame": "first",
    "alpha": "over-white",
    "depth": "high-byte",
    "color_profile": "ignored",
    "crop": "centre-square",
    "filter": "bilinear-antialias",
    "height": IMAGE_SHAPE[0],
    "width": IMAGE_SHAPE[1],
}
"""What ``pictures.pixels`` does, in order, in words that travel with a model file; its size is the model's own."""

STANDARD_DOMAINS = frozenset(("", "ai.onnx"))
"""Names of the operator set that every ONNX runtime has."""
CONTRACT_VERSION = 1
"""Version of what a model file promises; a reader refuses a newer one."""
CONTRACT_KEY = "cifarnet"
"""Key of the file's metadata under which its contract lies, as JSON."""
DIGEST_KEY = "cifarnet.sha256"
"""Key of the file's last entry of metadata, the SHA-256 (hex) of all bytes before it: what was proven is what runs."""
FILE_ENGINE = "onnxruntime"
"""What a model file is judged on; every other engine runs the trained network."""
CONTRACT_SUFFIX = ".json"
"""Of the file beside a model that holds its contract, for whoever cannot read metadata."""
PARITY_SUFFIX = ".parity.json"
"""Of the file beside a model that holds what was measured when it was proven."""
EPOCH_ATTRIBUTE = "cifarnet_epoch"
"""Attribute of a weights file (HDF5) that tells the epoch of its weights, counted from 1."""
ROBUSTNESS = "robustness.json"
"""Of the file in a run folder that holds what was measured on corrupted images."""
INPUT_NAME = "images"
"""The one input: uint8 (batch, height, width, 3), RGB, 0-255."""
LOGITS_NAME, PROBABILITIES_NAME, CALIBRATED_NAME = "logits", "probabilities", "calibrated"
"""The three outputs: float32 (batch, classes)."""
BATCH_DIMENSION = "batch"
"""Name of the one dimension that is free."""
INPUT: Final[Mapping[str, Any]] = {
    "name": INPUT_NAME,
    "dtype": "uint8",
    "layout": "NHWC",
    "color": "RGB",
    "range": [0, 255],
}
"""What a model file says of its input, beside the shape."""
OUTPUTS: Final[Mapping[str, Mapping[str, str]]] = {
    LOGITS_NAME: {"dtype": "float32", "meaning": "before the softmax"},
    PROBABILITIES_NAME: {"dtype": "float32", "meaning": "softmax of the logits"},
    CALIBRATED_NAME: {"dtype": "float32", "meaning": "softmax of the logits divided by the temperature"},
}
"""What a model file says of each output, beside the shape."""
CALIBRATION: Final[Mapping[str, str]] = {
    "temperature": "what the logits are divided by for `calibrated`, above 0",
    "images": "held-out images that all of this was measured on",
    "ece_before": "expected calibration error of `probabilities`, 0 to 1",
    "ece_after": "the same of `calibrated`",
    "loss_before": "mean cross-entropy of `probabilities`, nats",
    "loss_after": "the same of `calibrated`",
    "coverage": "what share of the images is answered at which threshold of confidence, and how well",
    "abstention": "the threshold with the largest coverage whose answers reach the target, or null where none does",
    "target_accuracy": "share of the answers that have to be right, 0 to 1",
}
"""What a model file says of its temperature; confidence is the largest number of a row of ``calibrated``."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of the text that Git LFS leaves in place of a file that was not fetched."""
LFS_ADVICE = "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
"""What the ONNX standard (MetadataProps) offers to say about an input that is an image."""


def printable(text: str) -> str:
    """Return the text with escapes for what would break its line or command a terminal, as file names may."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shell_word(text: str) -> str:
    """Return the text as a shell takes it for one word, in printable characters alone: bash's and zsh's $'...'."""
    plain = text.replace("\\", r"\\").replace("'", r"\'")
    hexed = (c if c.isprintable() else "".join(rf"\x{byte:02x}" for byte in os.fsencode(c)) for c in plain)
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(hexed)}'"


def reason_or_pointer(reason: object, file: Path | BinaryIO) -> str:
    """Return why ``file`` cannot be read: ``reason``, or that it is a Git LFS pointer, where it is one."""
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
            opened.seek(0)
            is_pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:  # the reason is told
        is_pointer = False
    return LFS_ADVICE if is_pointer else str(reason)


def seal(content: bytes | memoryview) -> bytes:
    """Return what ends a model file: the digest of all bytes before it, as one more entry of the file's metadata."""
    parts = (DIGEST_KEY.encode(), hashlib.sha256(content).hexdigest().encode())
    # Fields 1 and 2 of a StringStringEntryProto, in field 14 of a ModelProto; each length is below 128, one byte.
    entry = b"".join(bytes([tag, len(part)]) + part for tag, part in zip((0x0A, 0x12), parts, strict=True))
    return bytes([0x72, len(entry)]) + entry


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """When to give no answer, as it was measured on held-out images."""

    threshold: float
    """An answer counts where its confidence is at least this, 0 to 1."""
    coverage: float
    """Share of the images that is answered then, 0 to 1."""
    accuracy: float
    """Share of those answers that are right, 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image."""

    scores: tuple[tuple[str, float], ...]
    """Every class with its probability, 0 to 1, the most probable first."""
    confidence: float | None = None
    """Calibrated probability of the most probable class, 0 to 1; None where the model file has no temperature, since
    a probability that was not calibrated does not say how often it is right."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.scores[0][0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class, 0 to 1."""
        return self.scores[0][1]

    def top(self, count: int) -> tuple[tuple[str, float], ...]:
        """Return the ``count`` most probable classes, 1 to all of them, with their probabilities, 0 to 1.

        Raises ``UsageError`` for another count.
        """
        if not 1 <= count <= len(self.scores):
            raise UsageError(f"top is {count}; expected 1 to {len(self.scores)}, the number of classes: change it")
        return self.scores[:count]


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels; two are equal only where they are the same object.

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


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, a test split and the names of their classes.

    Two are equal only where they are the same object; compare fingerprints. Raises ``DataError`` for class names that
    no model file could carry, and for labels without a name.
    """

    name: str
    train: Split
    test: Split
    labels: tuple[str, ...]
    source: str | None = field(default=None, init=False)
    """Name or absolute path that ``open_dataset`` opened it by, or None; ``replace`` drops it, as the next two."""
    split_by: SplitBy | None = field(default=None, init=False)
    """Rule that drew the test part, or None where the test part was given."""
    split_seed: int | None = field(default=None, init=False)
    """Seed that drew the test part, or the synthetic images, or None where nothing was drawn."""

    def __post_init__(self) -> None:
        if fault := fault_of_labels(self.labels):
            raise DataError(f"{self.name} has {fault}")
        for part in (self.train, self.test):
            if len(part) and not (part.labels.min() >= 0 and part.labels.max() < len(self.labels)):
                raise DataError(
                    f"{self.name} has labels {part.labels.min()} to {part.labels.max()}; expected 0 to "
                    f"{len(self.labels) - 1}: check the label file"
                )

    def opened_by(self, source: str, *, split_by: SplitBy | None = None, split_seed: int | None = None) -> Dataset:
        """Return the same images, which now tell how to open them again."""
        opened = replace(self)
        vars(opened).update(source=source, split_by=split_by, split_seed=split_seed)  # frozen, but only just made
        return opened

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


def fault_of_labels(labels: Sequence[Any]) -> str | None:
    """Return what is wrong with class names, what was expected and what to do, or None for usable ones."""
    if len(labels) < 2:
        return f"{len(labels)} class; expected at least 2: add a class folder"
    seen: set[str] = set()
    for label in labels:
        if not isinstance(label, str) or not label:
            return f"a class {label!r}; expected text that is not empty: rename the class"
        if not _is_unicode(label):
            return f"a class {label!r}; expected a name in valid UTF-8: rename the class"
        if label in seen:
            return f"two classes {label!r}; expected different names: rename one"
        seen.add(label)
    return None


def _is_unicode(text: str) -> bool:
    """Return False for half a surrogate pair: what Python makes of a folder's name that is no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def durable(source: str | Path) -> str:
    """Return what ``open_dataset`` is given so that it means the same from another working folder."""
    return str(source) if source in NAMED_SOURCES else str(Path(source).expanduser().absolute())
