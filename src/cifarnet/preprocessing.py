"""Preprocessing of image files to RGB pixels of the model's input size, the same for training and inference.

It needs only numpy and Pillow.
"""

import errno
import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError, features

from . import png
from .contract import IMAGE_SHAPE, Shape, reason_or_pointer
from .errors import ConfigError, DataError, SizeError, reason

_READS_AVIF = features.check("avif")
_READS_HEIC = find_spec("pillow_heif") is not None
HEIC_EXTENSIONS = (".heic", ".heif")
"""Endings of the names of photos in HEIC, which Pillow reads with the package pillow-heif."""
EXTENSIONS = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *((".avif",) if _READS_AVIF else ()),
    *(HEIC_EXTENSIONS if _READS_HEIC else ()),
)
"""Endings of the names of image files in folders. Not every build of Pillow reads AVIF."""

SYSTEM_FOLDERS = frozenset(("@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin"))
"""Names, in lower case, of folders in which systems keep thumbnails, attributes and deleted files."""

VERSION = 2
"""Version of the preprocessing, part of the cache key: increase it with any change that affects pixels."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", *(("AVIF",) if _READS_AVIF else ()))
"""Accepted formats. Pillow also opens formats that start other programs."""

SMALL_BYTES = 1 << 16
"""Files smaller than this are read at once, which is faster than in Pillow's steps."""

MAX_PIXELS = 89_478_485
"""Default maximum size of an image; Pillow's limit for decompression bombs, 256 MiB as RGB."""
LIMIT_VARIABLE = "CIFARNET_MAX_PIXELS"
"""Environment variable that sets another limit, for all of Pillow in this process."""

SYSTEM_ERRORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO))
"""Errors of the system, such as too many open files, that say nothing about the image being read."""
SYSTEM_ADVICE = (
    "an error of the system, not of the file: check its limits (`ulimit -n`), memory and disk, and try again"
)
"""End of a message about one of these errors."""

_FACTORS = {"L;2": 85, "L;4": 17}
"""Factor from 2 or 4 bits of gray to 8, by Pillow's name of the layout in the file."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes an image upright, by EXIF orientation."""


def is_hidden(name: str) -> bool:
    """Return whether folders skip a file or folder of this name: its name begins with a dot or is of the system."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def read_pixels(file: Path | BinaryIO, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Decode and preprocess an image file to uint8 of ``shape`` (height, width, 3), RGB, 0-255.

    Raises DataError with only the reason, so the caller has to name the file; SizeError above ``max_pixels``; OSError
    for one of ``SYSTEM_ERRORS``; ConfigError for another value of ``LIMIT_VARIABLE`` than a number.
    """
    limit = max_pixels()
    if limit != MAX_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
    try:
        try:
            return _decoded(file, shape, limit)
        except ValueError:
            if (bare := _without_texts(file)) is None:
                raise
            return _decoded(bare, shape, limit)
    except UnidentifiedImageError as error:
        raise DataError(reason_or_pointer("no image in a known format", file)) from error
    except SizeError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        size = str(error).partition(" exceeds ")[0]  # Pillow names twice the limit if it is exceeded by more
        raise SizeError(f"{size}, which may be a decompression bomb") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        if getattr(error, "errno", None) in SYSTEM_ERRORS:
            raise
        raise DataError(reason(error) or type(error).__name__) from error


class Header(NamedTuple):
    """Size of an image as stored, and Pillow's name of its kind of pixels."""

    width: int
    height: int
    mode: str


def read_header(file: Path) -> Header:
    """Return the header of an image file that ``read_pixels`` can read."""
    with _opened(file) as image:
        return Header(image.width, image.height, image.mode)


def max_pixels() -> int:
    """Return the maximum size of an image, ``LIMIT_VARIABLE`` if set. Raises ConfigError if that is no number."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or not int(text):
        raise ConfigError(
            f"{LIMIT_VARIABLE} is {text!r}; expected a whole number of pixels: set it to {2 * MAX_PIXELS}"
        )
    return int(text)


def _decoded(file: Path | BinaryIO, shape: Shape, limit: int) -> NDArray[np.uint8]:
    content = _small(file)
    if content is not None and shape[0] * shape[1] <= limit:
        if (plain := png.plain_pixels(content, shape)) is not None:
            return plain
        file = io.BytesIO(content)
    with _opened(file) as image:
        # Checked here as well, because newer Python versions may not apply warning filters in threads.
        if image.width * image.height > limit:
            raise SizeError(f"{image.width}x{image.height} pixels")
        if image.format == "PNG" and image.fp is not None:
            png.require_checksums(image.fp)
        return pixels(image, shape)


def _opened(file: Path | BinaryIO) -> ImageFile.ImageFile:
    Image.preinit()  # the common formats; `open` would import those of all others
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        if not _READS_HEIC:
            raise
    from pillow_heif import register_heif_opener  # optional, and slow to import

    register_heif_opener(thumbnails=False)
    return Image.open(file, formats=("HEIF",))


def _small(file: Path | BinaryIO) -> bytes | None:
    """Return the content of a file, or None unless it is small."""
    if not isinstance(file, Path):
        return None
    with file.open("rb") as opened:
        content = opened.read(SMALL_BYTES)
    return content if len(content) < SMALL_BYTES else None


def _without_texts(file: Path | BinaryIO) -> BinaryIO | None:
    """Return a PNG file without its texts and color profile, or None for other files and those without."""
    if isinstance(file, Path):
        content = file.read_bytes()
    else:
        file.seek(0)
        content = file.read()
    bare = png.without_texts(content)
    return None if bare is None else io.BytesIO(bare)


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Make Pillow raise an error for a decompression bomb, not a warning, and ignore damage of EXIF tags.

    Use it around a thread pool and not inside it, because warning filters are process-wide.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def pixels(image: Image.Image, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Preprocess an image to uint8 of ``shape`` (height, width, 3), RGB, 0-255, as ``contract.RECIPE`` describes.

    An RGB image of that size is returned unchanged. Raises ValueError as ``rgb`` does, and for TIFF files of 12 bits,
    which Pillow does not scale to 16 bits, and of 16 bits where 0 is white, which it does not invert.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.BitsPerSample) == (12,):
        raise ValueError("pixels of 12 bits; expected 8 or 16 bits")
    if image.mode.startswith("I;16") and tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        raise ValueError("16-bit pixels with 0 as white; expected 0 as black")
    if not all(image.size):
        raise ValueError(f"{image.width}x{image.height} pixels; expected at least one")
    _scale_transparency(image)
    return np.asarray(resized(rgb(upright(image)), shape))


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent value of a 2- or 4-bit gray PNG to 8 bits, as Pillow scales its pixels but not that value.

    It changes ``image``, whose bit depth is known only until its pixels are loaded.
    """
    if image.format == "PNG" and isinstance(image.info.get("transparency"), int):
        for tile in getattr(image, "tile", ()):
            image.info["transparency"] *= _FACTORS.get(tile.args, 1)


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation, if it has one that can be read."""
    image.load()  # Pillow rotates TIFF files while loading them, and removes the tag
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (KeyError, SyntaxError, TypeError, ValueError, struct.error):  # a damaged block beside sound pixels
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: transparency over white, 16 bits to the high byte.

    Modes whose names begin with I;16 have pixels from 0 to 65535. Raises ValueError for the modes I (32-bit or signed
    integers) and F (floating point): which of their values are black and white is not defined.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is not defined; expected 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.has_transparency_data:
        return _over_white(image)
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


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Convert a 16-bit grayscale image to RGB, its transparent value, if any, to white."""
    values = np.asarray(image)
    is_transparent = values == image.info.get("transparency", -1)
    return Image.fromarray(np.where(is_transparent, 0xFF, values >> 8).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    color = image.info.get("transparency")
    if (
        image.mode == "RGB" and isinstance(color, tuple) and max(color) > 0xFF
    ):  # a 16-bit PNG, of which Pillow keeps only the high bytes
        image = image.copy()
        image.info["transparency"] = tuple(channel >> 8 for channel in color)
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
