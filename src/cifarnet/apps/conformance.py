"""Check the outputs of an app in any language on the golden images, and name the mistake that explains them."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cifarnet.contract import CALIBRATED_NAME, IMAGE_SHAPE, INPUT_NAME, LOGITS_NAME, OUTPUTS, PROBABILITIES_NAME
from cifarnet.errors import DataError, reason
from cifarnet.evaluation.scoring import softmax
from cifarnet.preprocessing import cropped, pixels, resized, rgb, upright

Row = NDArray[np.float64]
"""Outputs for one image, (classes,)."""
Values = NDArray[Any]
"""Values (32, 32, 3) in place of pixels 0-255."""
SIDE = IMAGE_SHAPE[0]
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Per channel, RGB scaled to 0-1."""
SECOND_SOFTMAX_SLOPE = 0.25
"""Maximum slope of a softmax, p * (1 - p) at 0.5."""
TOLERANCES = {LOGITS_NAME: 1e-4, PROBABILITIES_NAME: 1e-5, CALIBRATED_NAME: 1e-5}
"""Maximum absolute difference due to rounding. Measured with onnxruntime in Python, Node, browsers: 2.6e-6, 5.4e-7."""
NEAR = {LOGITS_NAME: 0.25, PROBABILITIES_NAME: 0.05, CALIBRATED_NAME: 0.03}
"""Maximum absolute difference due to pixels that are off by one. Measured: 0.17, 0.031 and 0.018 with every pixel
moved by -1, 0 or 1, in 20 draws; the least visible mistake makes 0.98, 0.16 and 0.09."""
UNNAMED = ""
"""Name of outputs that are given as a plain list."""
SUM_TOLERANCE = 1e-2
"""Maximum difference of a sum of probabilities from 1, since an app may print few digits."""


@dataclass(frozen=True)
class GoldenImage:
    """A test image with its expected preprocessing and outputs."""

    path: Path
    pixels: NDArray[np.uint8]
    """Expected model input, (32, 32, 3)."""
    outputs: Mapping[str, Row]


def read_golden(folder: Path) -> dict[str, GoldenImage]:
    """Return the golden images in ``folder`` by file name, the simplest first."""
    images = {}
    for entry in json.loads((folder / "golden.json").read_text(encoding="utf-8"))["images"]:
        pixels = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(IMAGE_SHAPE)
        path = folder / entry["file"]
        images[path.name] = GoldenImage(path, pixels, {name: np.array(entry[name]) for name in OUTPUTS})
    return images


def open_float_model(folder: Path) -> tuple[Callable[[NDArray[Any]], Row], float]:
    """Return the golden model with a float input, which accepts wrongly scaled pixels, and its temperature.

    The model maps values (32, 32, 3), given in place of pixels 0-255, to logits (classes,).
    """
    contract = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "floats.onnx", providers=["CPUExecutionProvider"])

    def logits(values: NDArray[Any]) -> Row:
        (found,) = session.run([LOGITS_NAME], {INPUT_NAME: values[None].astype(np.float32)})
        return np.asarray(found[0], np.float64)

    return logits, contract["calibration"]["temperature"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of the check for one output."""

    kind: str
    differences: Mapping[str, float]
    """Maximum absolute difference by image."""
    missing: tuple[str, ...]
    """Golden images that the app gave no output for."""
    mistakes: tuple[str, ...] = ()
    """The mistake that explains the differences, worded to follow "the app"; empty if none does or all agree."""
    others: tuple["Verdict", ...] = ()

    @property
    def differing(self) -> dict[str, float]:
        """Images that differ by more than rounding, largest difference first."""
        beyond = {name: found for name, found in self.differences.items() if found > TOLERANCES[self.kind]}
        return dict(sorted(beyond.items(), key=lambda item: -item[1]))

    @property
    def is_near(self) -> bool:
        """Whether pixels that are off by one would explain every difference."""
        return max(self.differences.values()) <= NEAR[self.kind]

    @property
    def conforms(self) -> bool:
        """Whether every output of every golden image agrees within rounding."""
        return not self.differing and not self.missing and all(other.conforms for other in self.others)


def read_outputs(path: Path) -> dict[str, Any]:
    """Return the outputs in a JSON file by image name, without the folder. Raises ``DataError``."""
    try:
        outputs = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = reason(error) if isinstance(error, OSError) else "it is no JSON"
        raise DataError(f"{path} cannot be read ({what}); expected JSON: check the path and the file") from error
    if not isinstance(outputs, dict):
        raise DataError(f"{path} holds no JSON object; expected {{image name: [numbers]}}: name the images")
    by_file = {Path(name).name: values for name, values in outputs.items()}
    if len(by_file) < len(outputs):
        raise DataError(
            f"{path} has {len(outputs)} entries for {len(by_file)} images; expected one per image: remove the others"
        )
    return by_file


def check_outputs(outputs: Mapping[str, Any], folder: Path) -> Verdict:
    """Compare ``outputs``, by image name, with the golden ones in ``folder``.

    The outputs of an image are a list of logits or probabilities, or a mapping with the keys ``logits``,
    ``probabilities`` or ``calibrated`` to such lists. Raises ``DataError`` for anything else.
    """
    golden = read_golden(folder)
    for name in outputs:
        if name not in golden:
            raise DataError(f"{name} is no golden image; expected {', '.join(golden)}: name each entry after its file")
    kinds = _by_kind({name: _rows(name, golden[name], outputs[name]) for name in golden if name in outputs})
    if not kinds:
        raise DataError("there are 0 outputs; expected one per golden image: run the app over all of them")
    first, *others = (_verdict(kind, kinds[kind], golden, folder) for kind in OUTPUTS if kind in kinds)
    return replace(first, others=tuple(others))


def _verdict(kind: str, rows: Mapping[str, Row], golden: Mapping[str, GoldenImage], folder: Path) -> Verdict:
    differences = {name: float(np.abs(row - golden[name].outputs[kind]).max()) for name, row in rows.items()}
    missing = tuple(name for name in golden if name not in rows)
    verdict = Verdict(kind=kind, differences=differences, missing=missing)
    if verdict.is_near:
        return verdict
    mistake = explain(rows, kind, golden, folder, NEAR[kind])
    return replace(verdict, mistakes=(mistake,) if mistake else ())


def _rows(name: str, golden: GoldenImage, output: Any) -> dict[str, Row]:
    """Return the rows of one image by output name; a plain list has the name ``UNNAMED``."""
    classes = len(golden.outputs[LOGITS_NAME])
    if not isinstance(output, dict):
        return {UNNAMED: _row(name, output, classes)}
    if not output or (unknown := output.keys() - OUTPUTS.keys()):
        found = ", ".join(sorted(unknown)) if output else "nothing"
        raise DataError(f"the entry for {name} names {found}; expected one or more of {', '.join(OUTPUTS)}: name those")
    return {kind: _row(f"{name} ({kind})", values, classes) for kind, values in output.items()}


def _row(name: str, values: Any, classes: int) -> Row:
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the entry for {name} is no list of numbers; expected {classes} of them: give the logits"
        ) from error
    if row.shape != (classes,) or not np.isfinite(row).all():
        raise DataError(
            f"the entry for {name} has shape {row.shape} and {int(np.isfinite(row).sum())} finite numbers; expected "
            f"({classes},) and all finite: give the logits"
        )
    return row


def _by_kind(outputs: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows by output and image; plain lists are probabilities if all are distributions, else logits."""
    lists = [rows[UNNAMED] for rows in outputs.values() if UNNAMED in rows]
    are_distributions = all((row >= 0).all() and abs(row.sum() - 1) <= SUM_TOLERANCE for row in lists)
    unnamed = PROBABILITIES_NAME if are_distributions else LOGITS_NAME
    kinds: dict[str, dict[str, Row]] = {}
    for name, rows in outputs.items():
        for kind, row in rows.items():
            kinds.setdefault(kind or unnamed, {})[name] = row
    return kinds


def _from_image(change: Callable[[Image.Image], Values]) -> Callable[[GoldenImage], Values]:
    def values(image: GoldenImage) -> Values:
        with Image.open(image.path) as opened:
            return change(opened)

    return values


def _from_pixels(change: Callable[[Values], Values]) -> Callable[[GoldenImage], Values]:
    return lambda image: change(image.pixels.astype(np.float64))


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else rgb(image)


def _without_antialias(image: Image.Image) -> Values:
    """Resize bilinearly without antialiasing, as OpenCV and TensorFlow do by default."""
    values = np.asarray(image, np.float64)
    for axis in (0, 1):
        places = np.clip((np.arange(SIDE) + 0.5) * values.shape[axis] / SIDE - 0.5, 0, values.shape[axis] - 1)
        low = places.astype(int)
        share = np.expand_dims(places - low, (1 - axis, 2))
        values = values.take(low, axis) * (1 - share) + values.take(low + 1, axis, mode="clip") * share
    return np.round(values)


PIXEL_MISTAKES: Mapping[str, Callable[[GoldenImage], Values]] = {
    "passes BGR: blue and red are swapped": _from_pixels(lambda values: values[..., ::-1]),
    "passes channels first instead of channels last": _from_pixels(
        lambda values: values.transpose(2, 0, 1).reshape(IMAGE_SHAPE)
    ),
    "divides by 255, which the model does again": _from_pixels(lambda values: values / 255),
    "divides by 255, which the model does again, and casts to bytes": _from_pixels(lambda values: values // 255),
    # The inverse of the golden model's scaling of 0-255 to [-1, 1].
    "bypasses the scaling in the model's first layers": _from_pixels(lambda values: (values + 1) * 127.5),
    "normalizes with ImageNet's mean and std before the model's own scaling": _from_pixels(
        lambda values: (values / 255 - IMAGENET_MEAN) / IMAGENET_STD
    ),
    "ignores the EXIF orientation": _from_image(lambda image: np.asarray(resized(rgb(image)))),
    "drops the alpha channel instead of blending over white": _from_image(
        lambda image: np.asarray(resized(_without_alpha(ImageOps.exif_transpose(image))))
    ),
    "clips 16-bit pixels to 255 instead of taking their high byte": _from_image(
        lambda image: pixels(image.convert("L") if image.mode.startswith("I") else image)
    ),
    "resizes without cropping to a square first": _from_image(
        lambda image: np.asarray(rgb(upright(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    ),
    "resizes with a bilinear filter that is not antialiased": _from_image(
        lambda image: _without_antialias(cropped(rgb(upright(image))))
    ),
}
SOFTMAX_TWICE = "applies softmax twice: `probabilities` is the softmax already"
NO_TEMPERATURE = "omits the temperature: that is `probabilities`, not `calibrated`"


def explain(rows: Mapping[str, Row], kind: str, golden: Mapping[str, GoldenImage], folder: Path, limit: float) -> str:
    """Return the mistake that best explains every row of the output ``kind``, or "" if none does within ``limit``."""
    logits, temperature = open_float_model(folder)
    outputs: dict[str, Callable[[Row], Row]] = {
        LOGITS_NAME: lambda row: row,
        PROBABILITIES_NAME: softmax,
        CALIBRATED_NAME: lambda row: softmax(row, temperature),
    }
    misfits = {
        name: _misfit(rows, {each: outputs[kind](logits(values(golden[each]))) for each in rows})
        for name, values in PIXEL_MISTAKES.items()
    }
    expected = {name: golden[name].outputs[PROBABILITIES_NAME] for name in rows}
    if kind == PROBABILITIES_NAME:
        twice = {name: softmax(row) for name, row in expected.items()}
        misfits[SOFTMAX_TWICE] = _misfit(rows, twice) / SECOND_SOFTMAX_SLOPE
    if kind == CALIBRATED_NAME:
        misfits[NO_TEMPERATURE] = _misfit(rows, expected)
    nearest = min(misfits, key=misfits.__getitem__)
    return nearest if misfits[nearest] <= limit else ""


def _misfit(rows: Mapping[str, Row], found: Mapping[str, Row]) -> float:
    return max(float(np.abs(row - found[name]).max()) for name, row in rows.items())
