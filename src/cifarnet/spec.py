"""The contract that the stages share: image shape, class names, the model file, and the value types between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from .errors import DataError, UsageError

if TYPE_CHECKING:  # the help reads the image shape here and has no time for numpy
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, int, int]
"""Height, width and channels of one image."""

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
IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
"""What the ONNX standard (MetadataProps) offers to say about an input that is an image."""


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
        for label in self.labels:
            _require_text(label, self.name)
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


def _require_text(label: str, name: str) -> None:
    """Raise ``DataError`` for half a surrogate pair: what Python makes of a folder's name that is no UTF-8."""
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} has a class {label!r}; expected a name in valid UTF-8: rename the class") from error
