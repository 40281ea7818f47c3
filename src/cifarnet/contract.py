"""Format of a model file: tensor names, preprocessing, and the contract in its metadata, read and validated."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

from .errors import ModelError

Shape = tuple[int, int, int]
"""Height, width and channels of one image."""
Fraction = Annotated[float, (0.0, 1.0)]
"""A number from 0 to 1."""

IMAGE_SHAPE = (32, 32, 3)
"""Default height, width and channels of one image: uint8, RGB, 0-255."""

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

AMERICAN: Final[Mapping[str, str]] = {", optimised": ", optimized"}
"""Spelling in which to show names of parity checks in model files, whose bytes stay the same."""
STANDARD_DOMAINS = frozenset(("", "ai.onnx"))
"""Names of the standard ONNX operator set."""
VIEWS = (1, 2, 6)
"""Numbers of views that a model can average; 1 is without test-time augmentation."""
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
PUBLISHED_ROBUSTNESS = "robustness.cifar10c.json"
"""Name of the file in a run folder with the results on the published images of CIFAR-10-C."""
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
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a Git LFS pointer, which stands for a file that was not fetched."""
LFS_ADVICE = "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
"""Standard ONNX metadata of an image input (MetadataProps)."""


MAX_SIDE = 4096
"""Maximum image height and width in pixels, which limits the memory that a file can request."""
SIZES = frozenset(("height", "width"))
"""Preprocessing settings that differ between models; the others must have the known values."""
MAX_TEMPERATURE = 1000
"""Maximum temperature, at which all classes are nearly equally probable."""
SHARES = ("threshold", "coverage", "accuracy")
"""Keys of the selective prediction threshold."""
KINDS = {"labels": list, "input": dict, "resize": dict, "precision": str, "model": dict}


def american(name: str) -> str:
    """Return the name of a parity check in a model file in American spelling."""
    for british, spelling in AMERICAN.items():
        name = name.replace(british, spelling)
    return name


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

    coverage: Fraction
    """Share of the images whose confidence is at least ``threshold``, 0 to 1."""
    threshold: Fraction
    """Minimum calibrated confidence, 0 to 1."""
    accuracy: Fraction
    """Accuracy on those images, 0 to 1."""


def fault_of_labels(labels: Sequence[Any]) -> str | None:
    """Return an error message (problem, expectation, solution) for invalid class names, or None for valid ones."""
    return _fault_of_names(labels) or _fault_of_look_alikes(labels)


def _fault_of_look_alikes(labels: Sequence[str]) -> str | None:
    """Return an error message for names that differ in spaces at an end or in how Unicode composes a letter."""
    plain: dict[str, str] = {}
    for label in labels:
        other = plain.setdefault(unicodedata.normalize("NFC", label).strip(), label)
        if other != label:
            return f"the classes {other!a} and {label!a}, which look alike; expected different names: rename one"
    return None


def _fault_of_names(labels: Sequence[Any]) -> str | None:
    if len(labels) < 2:
        return f"{len(labels)} class; expected at least 2: add a class folder"
    seen: set[str] = set()
    for label in labels:
        if not isinstance(label, str) or not label:
            return f"a class {label!r}; expected text that is not empty: rename the class"
        if label.encode(errors="ignore").decode() != label:  # a file name that is not valid UTF-8 has lone surrogates
            return f"a class {label!r}; expected a name in valid UTF-8: rename the class"
        if label in seen:
            return f"two classes {label!r}; expected different names: rename one"
        seen.add(label)
    return None


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The contract of a model file, validated: what an app needs to use the file."""

    labels: tuple[str, ...]
    """Class names in the order of the outputs."""
    image_shape: Shape
    precision: str
    """float32, float16 or int8."""
    views: int
    """Number of views that the model averages: 1 without test-time augmentation."""
    temperature: float | None
    """Divisor of the logits for the output ``calibrated``, above 0, or None without that output."""
    abstention: Coverage | None
    """Threshold for selective prediction, or None if there is none."""
    document: dict[str, Any] = field(repr=False)
    """All of it as JSON, with how the model was trained and verified, which ``run.exported`` reads."""

    def changed(self, **members: Any) -> Contract:
        """Return the contract with other members of its JSON. Raises ``ModelError`` for invalid ones."""
        return parse_contract({**self.document, **members}, "the model")

    @property
    def text(self) -> str:
        """The contract as canonical JSON."""
        text = json.dumps(self.document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(errors="backslashreplace").decode()  # a folder name may be invalid UTF-8


def read_contract(text: str, name: str) -> Contract:
    """Read the contract of the file ``name`` from its JSON ``text``. Raises ``ModelError`` as ``parse_contract``."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"it is no JSON: {error}") from error
    return parse_contract(document, name)


def parse_contract(document: Any, name: str) -> Contract:
    """Validate the contract of the file ``name``.

    Raises ``ModelError`` for a contract that is missing, damaged or of a newer version.
    """
    if not isinstance(document, dict):
        raise _damaged(name, "it is no JSON object")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise _damaged(name, f"its version is {version!r}")
    if version > CONTRACT_VERSION:
        raise _newer(name, f"has contract version {version}; expected at most {CONTRACT_VERSION}")
    _require_usable(document, name)
    calibration = document.get("calibration") or {}
    found, shape = calibration.get("abstention"), document["input"]["shape"]
    return Contract(
        labels=tuple(document["labels"]),
        image_shape=(shape[1], shape[2], shape[3]),
        precision=document["precision"],
        views=_views_of(document),
        temperature=float(calibration["temperature"]) if calibration else None,
        abstention=found and Coverage(**{key: float(found[key]) for key in SHARES}),
        document=document,
    )


def _views_of(document: Mapping[str, Any]) -> Any:
    return document.get("views", 2 if document.get("flip") else 1)


def _require_usable(document: Mapping[str, Any], name: str) -> None:
    """Raise ``ModelError`` unless labels, input, preprocessing and calibration are valid."""
    for key, kind in KINDS.items():
        if not isinstance(document.get(key), kind):
            raise _damaged(name, f"its {key} is {_short(document.get(key))}")
    if _fault_of_names(document["labels"]):  # files of earlier versions may have names that look alike
        raise _damaged(name, f"its labels are {_short(document['labels'])}, not two or more different names")
    _require_input(document["input"], name)
    _require_recipe(document["resize"], document["input"]["shape"], name)
    views = _views_of(document)
    if type(views) is not int or views not in VIEWS:
        raise _newer(name, f"averages {_short(views)} views; expected {', '.join(map(str, VIEWS))}")
    if document.get("calibration") is not None:  # absent in files of earlier versions
        _require_calibration(document["calibration"], name)


def _require_input(described: Mapping[str, Any], name: str) -> None:
    for key, value in INPUT.items():
        if described.get(key) != value:
            raise _damaged(name, f"its input has {key} {_short(described.get(key))}, not {value!r}")
    shape: Any = described.get("shape")
    is_shape = isinstance(shape, list) and len(shape) == 4 and (shape[0], shape[3]) == (BATCH_DIMENSION, 3)
    if not (is_shape and all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape[1:])):
        raise _damaged(name, f"its input has shape {_short(shape)}, not ['{BATCH_DIMENSION}', height, width, 3]")


def _require_recipe(recipe: Mapping[str, Any], shape: list[Any], name: str) -> None:
    if missing := RECIPE.keys() - recipe.keys():
        raise _damaged(name, f"its resize recipe lacks {', '.join(sorted(missing))}")
    if [recipe["height"], recipe["width"]] != shape[1:3]:
        raise _damaged(name, f"its resize recipe has another size than its input, {_short(shape)}")
    for word in sorted(recipe.keys() - SIZES):
        if recipe[word] != RECIPE.get(word):
            known = f"expected {RECIPE[word]}" if word in RECIPE else "there is no such step"
            raise _newer(name, f"resizes images with {_short(word)} {_short(recipe[word])}; {known} in this version")


def _require_calibration(calibration: Any, name: str) -> None:
    if not isinstance(calibration, dict):
        raise _damaged(name, f"its calibration is {_short(calibration)}")
    temperature: Any = calibration.get("temperature")
    abstention = calibration.get("abstention")
    if not (_is_number(temperature) and 0 < temperature <= MAX_TEMPERATURE):
        raise _damaged(
            name, f"its temperature is {_short(temperature)}, not a number above 0 and up to {MAX_TEMPERATURE}"
        )
    if abstention is not None:
        shares: list[Any] = [abstention.get(key) for key in SHARES] if isinstance(abstention, dict) else [None]
        if not all(_is_number(share) and 0 <= share <= 1 for share in shares):
            raise _damaged(name, f"its abstention is {_short(abstention)}, not {', '.join(SHARES)} of 0 to 1")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _damaged(name: str, reason: str) -> ModelError:
    return ModelError(
        f"{name} has a damaged contract ({reason}); expected one written by `cifarnet export`: export it again"
    )


def _newer(name: str, found: str) -> ModelError:
    return ModelError(f"{name} {found}: install a newer cifarnet")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
