"""Preprocessing of image files to RGB pixels of the model's input size, the same for training and inference.

It needs only numpy and Pillow.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .contract import IMAGE_SHAPE, Shape, reason_or_pointer
from .errors import DataError, SizeError, reason

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Accepted formats. Pillow also opens formats that start other programs."""

MAX_PIXELS = 89_478_485
"""Maximum size of an image; Pillow's limit for decompression bombs, 256 MiB as RGB."""

UPRIGHT = 1
"""EXIF orientation of an image that is stored upright."""


def read_pixels(file: Path | BinaryIO, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Decode and preprocess an image file to uint8 of ``shape`` (height, width, 3), RGB, 0-255.

    Raises DataError with only the reason, so the caller has to name the file; SizeError above ``MAX_PIXELS``.
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
        # Checked here as well, because newer Python versions may not apply warning filters in threads.
        if image.width * image.height > MAX_PIXELS:
            raise SizeError(f"{image.width}x{image.height} pixels")
        return pixels(image, shape)


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Make Pillow raise an error for a decompression bomb, not a warning.

    Use it around a thread pool and not inside it, because warning filters are process-wide.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def pixels(image: Image.Image, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Preprocess an image to uint8 of ``shape`` (height, width, 3), RGB, 0-255, as ``contract.RECIPE`` describes.

    An RGB image of that size is returned unchanged. Raises ValueError for floating-point pixels.
    """
    return np.asarray(resized(rgb(upright(image)), shape))


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation, if it has one."""
    is_upright = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT
    return image if is_upright else ImageOps.exif_transpose(image)


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: transparency over white, 16 bits to the high byte."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected integers")
    if image.mode.startswith("I"):
        return Image.fromarray(_high_byte(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(image: Image.Image, shape: Shape = IMAGE_SHAPE) -> Image.Image:
    """Center-crop an image to a square and resize it to ``shape``.

    Cropping is a separate first step, so that the antialiasing filter does not read pixels outside the square.
    """
    if image.size == (shape[1], shape[0]) and image.width == image.height:
        return image
    return cropped(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, reducing_gap=None)


def cropped(image: Image.Image) -> Image.Image:
    """Return the largest centered square. An odd margin is one pixel larger on the right or at the bottom."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _high_byte(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the upper 8 of 16 bits, as Pillow does for 16-bit color. Other values are clipped to 16 bits first."""
    high: NDArray[np.uint8] = (np.clip(values, 0, 0xFFFF) >> 8).astype(np.uint8)
    return high


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
