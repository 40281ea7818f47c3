"""Common mistakes of apps, each described in words that follow "the app"."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cifarnet.contract import CALIBRATED_NAME, IMAGE_SHAPE, LOGITS_NAME, PROBABILITIES_NAME
from cifarnet.evaluation.scoring import softmax
from cifarnet.preprocessing import cropped, pixels, resized, rgb, upright

from .golden import GoldenImage, Row, open_float_model

Values = NDArray[Any]
"""Values (32, 32, 3) in place of pixels 0-255."""
SIDE = IMAGE_SHAPE[0]
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Per channel, RGB scaled to 0-1."""
SECOND_SOFTMAX_SLOPE = 0.25
"""Maximum slope of a softmax, p * (1 - p) at 0.5."""


def _from_image(change: Callable[[Image.Image], Values]) -> Callable[[GoldenImage], Values]:
    def values(image: GoldenImage) -> Values:
        with Image.open(image.path) as opened:
            return change(opened)

    return values


def _from_pixels(change: Callable[[Values], Values]) -> Callable[[GoldenImage], Values]:
    return lambda image: change(image.pixels.astype(np.float64))


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else rgb(image)


def _clipped(image: Image.Image) -> Image.Image:
    return image.convert("L") if image.mode.startswith("I") else image


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
    "clips 16-bit pixels to 255 instead of taking their high byte": _from_image(lambda image: pixels(_clipped(image))),
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
    """Return the mistake that best explains every row, or "" if none does within ``limit``.

    ``rows`` are the app's values of the output ``kind`` by golden image; ``folder`` contains the golden model.
    """
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
