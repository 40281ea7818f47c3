"""Shared definitions: image shape, class names, the model file format, and the value types between stages."""

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

if TYPE_CHECKING:  # `--help` reads the image shape here, and numpy is slow to import
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, int, int]
"""Height, width and channels of one image."""

IMAGE_SHAPE = (32, 32, 3)
"""Default height, width and channels of one image: uint8, RGB, 0-255."""

CIFAR10_FINGERPRINT = "5dbb2c57cc9d3346ee41c71cf7f1f900ed7bd0c71302e2fa82bd9fcf940536e6"
"""Fingerprint of the official CIFAR-10 dataset."""
NAMED_SOURCES = frozenset(("cifar10", "synthetic"))
"""Names of built-in datasets."""

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
"""Steps of ``preprocessing.pixels``, in order, as stored in a model file with the model's own height and width."""

STANDARD_DOMAINS = frozenset(("", "ai.onnx"))
"""Names of the standard ONNX operator set."""
CONTRACT_VERSION = 1
"""Version of the model file's contract; a reader refuses newer ones."""
CONTRACT_KEY = "cifarnet"
"""Metadata key of the contract (JSON)."""
DIGEST_KEY = "cifarnet.sha256"
"""Key of the last metadata entry: the SHA-256 (hex) of all bytes before it, to detect changes after verification."""
FILE_ENGINE = "onnxruntime"
"""Engine that evaluates model files; every other engine runs the trained network."""
CONTRACT_SUFFIX = ".json"
"""Suffix of the file beside a model with its contract, for readers without access to ONNX metadata."""
PARITY_SUFFIX = ".parity.json"
"""Suffix of the file beside a model with the results of its parity check."""
EPOCH_ATTRIBUTE = "cifarnet_epoch"
"""Attribute of a weights file (HDF5): the epoch of the weights, counted from 1."""
ROBUSTNESS = "robustness.json"
"""Name of the file in a run folder with the results on corrupted images."""
INPUT_NAME = "images"
"""Name of the input: uint8 (batch, height, width, 3), RGB, 0-255."""
LOGITS_NAME, PROBABILITIES_NAME, CALIBRATED_NAME = "logits", "probabilities", "calibrated"
"""Names of the three outputs: float32 (batch, classes)."""
BATCH_DIMENSION = "batch"
"""Name of the dynamic dimension."""
INPUT: Final[Mapping[str, Any]] = {
    "name": INPUT_NAME,
    "dtype": "uint8",
    "layout": "NHWC",
    "color": "RGB",
    "range": [0, 255],
}
"""Description of the input in a model file; the shape is added."""
OUTPUTS: Final[Mapping[str, Mapping[str, str]]] = {
    LOGITS_NAME: {"dtype": "float32", "meaning": "before the softmax"},
    PROBABILITIES_NAME: {"dtype": "float32", "meaning": "softmax of the logits"},
    CALIBRATED_NAME: {"dtype": "float32", "meaning": "softmax of the logits divided by the temperature"},
}
"""Description of the outputs in a model file; the shape is added."""
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
"""Description of the calibration in a model file. Confidence is the largest value of a row of ``calibrated``."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a Git LFS pointer, which stands for a file that was not fetched."""
LFS_ADVICE = "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
"""Standard ONNX metadata of an image input (MetadataProps)."""


def printable(text: str) -> str:
    """Escape characters that would break the line or control the terminal, which file names may contain."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shell_word(text: str) -> str:
    """Quote the text as one word of a shell command, with bash's and zsh's $'...' for unprintable characters."""
    plain = text.replace("\\", r"\\").replace("'", r"\'")
    hexed = (c if c.isprintable() else "".join(rf"\x{byte:02x}" for byte in os.fsencode(c)) for c in plain)
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(hexed)}'"


def reason_or_pointer(reason: object, file: Path | BinaryIO) -> str:
    """Return ``reason`` as text, or that ``file`` is a Git LFS pointer if it is one."""
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
            opened.seek(0)
            is_pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:  # `reason` is enough
        is_pointer = False
    return LFS_ADVICE if is_pointer else str(reason)


def seal(content: bytes | memoryview) -> bytes:
    """Return the last metadata entry of a model file: the SHA-256 of ``content``, which is all bytes before it."""
    parts = (DIGEST_KEY.encode(), hashlib.sha256(content).hexdigest().encode())
    # Fields 1 and 2 of a StringStringEntryProto, in field 14 of a ModelProto; each length is below 128, one byte.
    entry = b"".join(bytes([tag, len(part)]) + part for tag, part in zip((0x0A, 0x12), parts, strict=True))
    return bytes([0x72, len(entry)]) + entry


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Coverage and accuracy of selective prediction at a confidence threshold, measured on validation images."""

    coverage: float
    """Share of the images whose confidence is at least ``threshold``, 0 to 1."""
    threshold: float
    """Minimum calibrated confidence, 0 to 1."""
    accuracy: float
    """Accuracy on those images, 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image."""

    scores: tuple[tuple[str, float], ...]
    """All classes with their probabilities, 0 to 1, most probable first."""
    confidence: float | None = None
    """Calibrated probability of the most probable class, 0 to 1, or None if the model file has no temperature."""

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
    """Images with labels. Instances are compared by identity.

    ``images`` is uint8 (n, height, width, 3), RGB, 0-255, possibly memory-mapped; ``labels`` is int32 (n,), indices
    into the class names. Raises ``DataError`` for other shapes and dtypes.
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
    """A training split, a test split and the class names.

    Instances are compared by identity; compare fingerprints instead. Raises ``DataError`` for invalid class names and
    for labels without a name.
    """

    name: str
    train: Split
    test: Split
    labels: tuple[str, ...]
    source: str | None = field(default=None, init=False)
    """Name or absolute path passed to ``open_dataset``, or None. ``replace`` resets this and the next two fields."""
    split_by: SplitBy | None = field(default=None, init=False)
    """How the test split was chosen, or None if it was given."""
    split_seed: int | None = field(default=None, init=False)
    """Seed of the test split or of the synthetic images, or None if neither is random."""

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
        """Return the same dataset with the arguments of ``open_dataset`` that open it again."""
        opened = replace(self)
        vars(opened).update(source=source, split_by=split_by, split_seed=split_seed)  # the class is frozen
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
    """Return an error message (problem, expectation, solution) for invalid class names, or None for valid ones."""
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
    """Return False for a lone surrogate, which Python uses for file names that are not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def durable(source: str | Path) -> str:
    """Return a name unchanged and a path as absolute, so that it is valid in any working directory."""
    return str(source) if source in NAMED_SOURCES else str(Path(source).expanduser().absolute())
