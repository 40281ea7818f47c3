"""What apps commonly get wrong. The name of each mistake is in words that follow "the app"."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cifarnet.contract import CALIBRATED_NAME, IMAGE_SHAPE, LOGITS_NAME, PROBABILITIES_NAME
from cifarnet.evaluation.scoring import softmax
from cifarnet.preprocessing import cropped, pixels, resized, rgb, upright

from .golden import FloatModel, GoldenImage, Row

Values = NDArray[Any]
"""What stands where pixels 0-255 should, (32, 32, 3)."""
SIDE = IMAGE_SHAPE[0]
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of red, green and blue scaled to 0-1, as tutorials print them."""
SECOND_SOFTMAX_SLOPE = 0.25
"""A softmax of probabilities changes by at most a quarter of what they change by: the largest p * (1 - p)."""


def _of_picture(change: Callable[[Image.Image], Values]) -> Callable[[GoldenImage], Values]:
    def values(image: GoldenImage) -> Values:
        with Image.open(image.path) as picture:
            return change(picture)

    return values


def _of_pixels(change: Callable[[Values], Values]) -> Callable[[GoldenImage], Values]:
    return lambda image: change(image.pixels.astype(np.float64))


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else rgb(image)


def _clipped(image: Image.Image) -> Image.Image:
    return image.convert("L") if image.mode.startswith("I") else image


def _without_antialias(image: Image.Image) -> Values:
    """Blend the four nearest pixels however far apart the samples lie, as OpenCV and TensorFlow do by default."""
    values = np.asarray(image, np.float64)
    for axis in (0, 1):
        places = np.clip((np.arange(SIDE) + 0.5) * values.shape[axis] / SIDE - 0.5, 0, values.shape[axis] - 1)
        low = places.astype(int)
        share = np.expand_dims(places - low, (1 - axis, 2))
        values = values.take(low, axis) * (1 - share) + values.take(low + 1, axis, mode="clip") * share
    return np.round(values)


PIXEL_MISTAKES: Mapping[str, Callable[[GoldenImage], Values]] = {
    "hands over BGR: blue and red are swapped": _of_pixels(lambda values: values[..., ::-1]),
    "hands over channels first: all red, then all green, then all blue": _of_pixels(
        lambda values: values.transpose(2, 0, 1).reshape(IMAGE_SHAPE)
    ),
    "divides by 255, which the model does again": _of_pixels(lambda values: values / 255),
    "divides by 255, which the model does again, and casts to bytes": _of_pixels(lambda values: values // 255),
    # The golden model takes 0-255 to -1...1 itself: these values come out of that as 0-255.
    "leaves out the scaling that the model's first layers do": _of_pixels(lambda values: (values + 1) * 127.5),
    "normalizes with ImageNet's mean and std before the model's own scaling": _of_pixels(
        lambda values: (values / 255 - IMAGENET_MEAN) / IMAGENET_STD
    ),
    "ignores the EXIF orientation": _of_picture(lambda image: np.asarray(resized(rgb(image)))),
    "drops the alpha channel, so that the color under transparent parts shows": _of_picture(
        lambda image: np.asarray(resized(_without_alpha(ImageOps.exif_transpose(image))))
    ),
    "clips 16-bit pixels to 255 instead of taking their high byte": _of_picture(lambda image: pixels(_clipped(image))),
    "squeezes the whole picture into the square instead of cropping it": _of_picture(
        lambda image: np.asarray(rgb(upright(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    ),
    "resizes with a bilinear filter that is not antialiased": _of_picture(
        lambda image: _without_antialias(cropped(rgb(upright(image))))
    ),
}
SOFTMAX_TWICE = "applies softmax twice: the file's probabilities are probabilities already"
NO_TEMPERATURE = "leaves the temperature out: that is `probabilities`, not `calibrated`"


def explain(
    rows: Mapping[str, Row], kind: str, golden: Mapping[str, GoldenImage], model: FloatModel, limit: float
) -> str:
    """Return the name of the one mistake that comes nearest to every row, or "" where none comes within ``limit``.

    ``rows`` are an app's numbers of a ``kind``, the name of an output, by golden image.
    """
    misfits = {}
    for name, values in PIXEL_MISTAKES.items():
        found = {each: _output(kind, model.logits(values(golden[each])), model.temperature) for each in rows}
        misfits[name] = _misfit(rows, found)
    right = {name: golden[name].answers[PROBABILITIES_NAME] for name in rows}
    if kind == PROBABILITIES_NAME:
        twice = {name: softmax(row) for name, row in right.items()}
        misfits[SOFTMAX_TWICE] = _misfit(rows, twice) / SECOND_SOFTMAX_SLOPE
    if kind == CALIBRATED_NAME:
        misfits[NO_TEMPERATURE] = _misfit(rows, right)
    nearest = min(misfits, key=misfits.__getitem__)
    return nearest if misfits[nearest] <= limit else ""


def _output(kind: str, logits: Row, temperature: float) -> Row:
    if kind == LOGITS_NAME:
        return logits
    return softmax(logits / temperature if kind == CALIBRATED_NAME else logits)


def _misfit(rows: Mapping[str, Row], found: Mapping[str, Row]) -> float:
    return max(float(np.abs(row - found[name]).max()) for name, row in rows.items())
