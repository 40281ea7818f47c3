"""What apps get wrong, step by step from the file to the numbers.

Each step is a table of ways to do it. The first way, with the empty name, is the right one; the name of every other
says what went wrong, in words that follow "the app".
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cifarnet.pictures import cropped, resized, rgb
from cifarnet.spec import CALIBRATED_NAME, IMAGE_SHAPE, LOGITS_NAME, PROBABILITIES_NAME

RIGHT = ""
Picture = Image.Image
Values = NDArray[Any]
"""Of shape (32, 32, 3)."""
Scaling = Callable[[Picture, tuple[int, int]], Picture]

SIDE = IMAGE_SHAPE[0]
MEANS_AND_STDS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
"""Of red, green and blue scaled to 0-1, as tutorials print them."""

# From the file to an RGB picture


def _clipped_to_bytes(image: Picture) -> Picture:
    return image.convert("L") if image.mode.startswith("I") else image


def _over(color: str) -> Callable[[Picture], Picture]:
    def over(image: Picture) -> Picture:
        if not image.has_transparency_data:
            return rgb(image)
        background = Image.new("RGBA", image.size, color)
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")

    return over


def _alpha_dropped(image: Picture) -> Picture:
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else rgb(image)


ORIENTATIONS: Mapping[str, Callable[[Picture], Picture]] = {
    RIGHT: ImageOps.exif_transpose,
    "ignores the EXIF orientation": lambda image: image,
}
DEPTHS: Mapping[str, Callable[[Picture], Picture]] = {
    RIGHT: lambda image: image,
    "clips 16-bit pixels to 255 instead of taking their high byte": _clipped_to_bytes,
}
OPACITIES: Mapping[str, Callable[[Picture], Picture]] = {
    RIGHT: rgb,
    "lays transparent parts over black instead of white": _over("black"),
    "lays transparent parts over grey instead of white": _over("#808080"),
    "drops the alpha channel, so that the colour under transparent parts shows": _alpha_dropped,
}

# From an RGB picture to 32x32


def _by(kind: Image.Resampling) -> Scaling:
    return lambda image, size: image.resize(size, kind)


def _without_antialias(image: Picture, size: tuple[int, int]) -> Picture:
    """Blend the four nearest pixels however far apart the samples lie, as OpenCV and TensorFlow do by default."""
    values = np.asarray(image, np.float64)
    for axis, length in ((0, size[1]), (1, size[0])):
        places = np.clip((np.arange(length) + 0.5) * values.shape[axis] / length - 0.5, 0, values.shape[axis] - 1)
        low = places.astype(int)
        share = np.expand_dims(places - low, tuple(other for other in range(3) if other != axis))
        next_one = np.minimum(low + 1, values.shape[axis] - 1)
        values = values.take(low, axis) * (1 - share) + values.take(next_one, axis) * share
    return Image.fromarray(np.round(values).astype(np.uint8))


SCALINGS: Mapping[str, Scaling] = {
    RIGHT: _by(Image.Resampling.BILINEAR),
    "resizes with a bilinear filter that is not antialiased": _without_antialias,
    "resizes with the nearest pixel": _by(Image.Resampling.NEAREST),
    "resizes with a box filter (area)": _by(Image.Resampling.BOX),
    "resizes with a bicubic filter": _by(Image.Resampling.BICUBIC),
    "resizes with a Lanczos filter": _by(Image.Resampling.LANCZOS),
}


def _cropped_then_scaled(image: Picture, scaling: Scaling) -> Picture:
    return scaling(cropped(image), (SIDE, SIDE))


def _scaled_then_cropped(image: Picture, scaling: Scaling) -> Picture:
    shortest = min(image.size)
    return resized(scaling(image, (image.width * SIDE // shortest, image.height * SIDE // shortest)))


CUTS: Mapping[str, Callable[[Picture, Scaling], Picture]] = {
    RIGHT: _cropped_then_scaled,
    "squeezes the whole picture into the square instead of cropping it": lambda image, scaling: scaling(
        image, (SIDE, SIDE)
    ),
    "scales the whole picture first and crops then": _scaled_then_cropped,
}

# From 32x32 bytes to what the model is given

LAYOUTS: Mapping[str, Callable[[Values], Values]] = {
    RIGHT: lambda values: values,
    "hands over BGR: blue and red are swapped": lambda values: values[..., ::-1],
    "hands over channels first: all red, then all green, then all blue": lambda values: values.transpose(
        2, 0, 1
    ).reshape(IMAGE_SHAPE),
    "hands over columns as rows: height and width are swapped": lambda values: values.transpose(1, 0, 2),
}


def _normalised(values: Values, source: str) -> Values:
    mean, std = MEANS_AND_STDS[source]
    normalised: Values = (values / 255 - np.array(mean)) / np.array(std)
    return normalised


def _as_pixels_of(scaled: Values) -> Values:
    """Return the pixels that the golden model itself scales, 0-255 to -1...1, to ``scaled``."""
    return (scaled + 1) * 127.5


def _cast_to_bytes(values: Values) -> Values:
    return np.trunc(values) % 256  # as C and numpy wrap a negative number


RANGES: Mapping[str, Callable[[Values], Values]] = {
    RIGHT: lambda values: values,
    "divides by 255, which the model does again": lambda values: values / 255,
    "divides by 255, which the model does again, and casts to bytes": lambda values: _cast_to_bytes(values / 255),
    "scales to -1...1, which the model does again": lambda values: values / 127.5 - 1,
    "leaves out the division by 255 that the model's first layer does": _as_pixels_of,
    "scales to 0...1 in place of the model's first layer, which scales to -1...1": lambda values: _as_pixels_of(
        values / 255
    ),
} | {
    f"normalises with {source}'s mean and std, {how}": way
    for source in MEANS_AND_STDS
    for how, way in {
        "before the model's own scaling": lambda values, source=source: _normalised(values, source),
        "before the model's own scaling, and casts to bytes": lambda values, source=source: _cast_to_bytes(
            _normalised(values, source)
        ),
        "in place of the model's own scaling": lambda values, source=source: _as_pixels_of(_normalised(values, source)),
    }.items()
}

# From logits to what is handed in

Numbers = NDArray[np.float64]
"""Of one image, (classes,)."""


def softmax(logits: Numbers) -> Numbers:
    """Return the probabilities (classes,) of logits (classes,)."""
    powers = np.exp(logits - logits.max())
    probabilities: Numbers = powers / powers.sum()
    return probabilities


SOFTMAX_TWICE = "applies softmax twice: the file's probabilities are probabilities already"
PROBABILITIES_DIVIDED = "divides the probabilities by the temperature instead of the logits"
SECOND_SOFTMAX = frozenset((SOFTMAX_TWICE, PROBABILITIES_DIVIDED))
"""What makes all numbers nearly alike."""
HEADS: Mapping[str, Mapping[str, Callable[[Numbers, float], Numbers]]] = {
    LOGITS_NAME: {RIGHT: lambda logits, _: logits},
    PROBABILITIES_NAME: {
        RIGHT: lambda logits, _: softmax(logits),
        SOFTMAX_TWICE: lambda logits, _: softmax(softmax(logits)),
        "divides by the temperature: that is `calibrated`, not `probabilities`": lambda logits, temperature: softmax(
            logits / temperature
        ),
    },
    CALIBRATED_NAME: {
        RIGHT: lambda logits, temperature: softmax(logits / temperature),
        "leaves the temperature out: that is `probabilities`, not `calibrated`": lambda logits, _: softmax(logits),
        "divides by the temperature twice": lambda logits, temperature: softmax(logits / temperature**2),
        "multiplies by the temperature instead of dividing": lambda logits, temperature: softmax(logits * temperature),
        PROBABILITIES_DIVIDED: lambda logits, temperature: softmax(softmax(logits) / temperature),
    },
}
"""From logits and the temperature to each output of the file."""
