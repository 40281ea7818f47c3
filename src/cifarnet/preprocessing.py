"""From any picture to the small square of RGB pixels that the model sees: one recipe for training and for use.

Needs numpy and Pillow alone, so that the runtime can share it.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .atomic import reason
from .contract import IMAGE_SHAPE, Shape, reason_or_pointer
from .errors import DataError, SizeError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Named one by one, because Pillow also opens formats that start other programs."""

MAX_PIXELS = 89_478_485
"""Pillow's own limit, above which it warns of a decompression bomb: a quarter of a gigabyte as RGB."""

UPRIGHT = 1
"""EXIF's number for a picture that is to be shown as it is stored."""


def read_pixels(file: Path | BinaryIO, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Decode an image file and return its pixels by the recipe, uint8 of ``shape``, RGB, 0-255.

    Raises DataError with the reason alone: the caller knows how to name the file. It is a SizeError for more than
    ``MAX_PIXELS``.
    """
    try:
        return _decoded(file, shape)
    except UnidentifiedImageError as error:
        raise DataError(reason_or_pointer("no image in a known format", file)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError, SizeError) as error:
        raise SizeError(str(error)) from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise DataError(reason(error) or type(error).__name__) from error


def _decoded(file: Path | BinaryIO, shape: Shape) -> NDArray[np.uint8]:
    with Image.open(file, formats=_FORMATS) as image:
        # Again by hand: a newer Python may keep the filters of warnings away from threads.
        if image.width * image.height > MAX_PIXELS:
            raise SizeError(f"{image.width}x{image.height} pixels")
        return pixels(image, shape)


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Make Pillow refuse a decompression bomb where it only warns.

    Around a pool of threads, not inside it: the filters of warnings belong to the whole process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def pixels(image: Image.Image, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Return the picture as uint8 of ``shape`` (height, width, 3), RGB, 0-255, by the recipe in ``spec.RECIPE``.

    An RGB picture of that size comes through untouched. Raises ValueError for a mode without a meaning in 8-bit RGB.
    """
    return np.asarray(resized(rgb(upright(image)), shape))


def upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its EXIF tag says; without one it stays as it is."""
    is_upright = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT
    return image if is_upright else ImageOps.exif_transpose(image)


def rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB: transparent parts over white, 16 bits to their high byte."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected integers")
    if image.mode.startswith("I"):
        return Image.fromarray(_high_byte(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(image: Image.Image, shape: Shape = IMAGE_SHAPE) -> Image.Image:
    """Cut the largest square out of the middle, then scale it.

    The crop comes first and by itself, so that no pixel from outside the square reaches the antialiasing filter.
    """
    if image.size == (shape[1], shape[0]) and image.width == image.height:
        return image
    return cropped(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, reducing_gap=None)


def cropped(image: Image.Image) -> Image.Image:
    """Return the largest square in the middle; the spare pixel of an odd margin stays right or below."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _high_byte(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Keep the upper 8 of 16 bits, as Pillow itself does for 16-bit colour; what is outside of 16 bits is clipped."""
    high: NDArray[np.uint8] = (np.clip(values, 0, 0xFFFF) >> 8).astype(np.uint8)
    return high


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
