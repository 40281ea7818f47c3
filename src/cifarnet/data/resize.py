"""From any picture to the 32x32 RGB pixels that the model sees: one recipe for training and for use.

Needs numpy and Pillow alone, so that the runtime can share it.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cifarnet.spec import IMAGE_SHAPE

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
"""What `pixels` does, in order, in words that can travel with a model file."""


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the picture as uint8 (32, 32, 3), RGB, 0-255.

    A 32x32 RGB picture comes through untouched. Raises ValueError for a mode without a meaning in 8-bit RGB.
    """
    return np.asarray(resized(rgb(ImageOps.exif_transpose(image))))


def rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB: transparent parts over white, 16 bits to their high byte."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected integers")
    if image.mode.startswith("I"):
        return Image.fromarray(_high_byte(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image.convert("RGB")


def resized(image: Image.Image) -> Image.Image:
    """Cut the largest square out of the middle (the spare pixel of an odd margin stays right or below), then scale.

    The crop comes first and by itself, so that no pixel from outside the square reaches the antialiasing filter.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((IMAGE_SHAPE[1], IMAGE_SHAPE[0]), Image.Resampling.BILINEAR, reducing_gap=None)


def _high_byte(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Keep the upper 8 of 16 bits, as Pillow itself does for 16-bit colour; what is outside of 16 bits is clipped."""
    high: NDArray[np.uint8] = (np.clip(values, 0, 0xFFFF) >> 8).astype(np.uint8)
    return high


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
