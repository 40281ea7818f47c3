"""Decode image files, and name every one that cannot be decoded."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cifarnet.errors import DataError
from cifarnet.spec import IMAGE_SHAPE

from .progress import Progress
from .resize import pixels

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Named one by one, because Pillow also opens formats that start other programs."""

_MAX_PIXELS = 89_478_485
"""Pillow's own limit, above which it warns of a decompression bomb: a quarter of a gigabyte as RGB."""

_THREADS = 4
"""Pillow releases the interpreter lock while it decodes; more threads would only hold more big pictures at once."""

_SHOWN = 5
"""Paths in an error message."""


def read_images(paths: Sequence[Path], progress: Progress) -> NDArray[np.uint8]:
    """Decode all files with a few threads.

    Returns uint8 (n, 32, 32, 3), in the order of the paths. Raises one DataError for all that cannot be read.
    """
    images = np.empty((len(paths), *IMAGE_SHAPE), np.uint8)
    failures = []
    for index, outcome in enumerate(_outcomes(paths, progress)):
        if isinstance(outcome, str):
            failures.append(f"{paths[index]} ({outcome})")
        else:
            images[index] = outcome
    _check_failures(failures, len(paths))
    return images


def _outcomes(paths: Sequence[Path], progress: Progress) -> Iterator[NDArray[np.uint8] | str]:
    """Yield the pixels of each file, or the reason why there are none."""
    sizes_bytes = [path.stat().st_size for path in paths]
    done_bytes, total_bytes = 0, sum(sizes_bytes)
    # set around the pool: the filters of warnings belong to the whole process, not to a thread
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for outcome, size_bytes in zip(pool.map(_pixels_or_reason, paths), sizes_bytes, strict=True):
            yield outcome
            done_bytes += size_bytes
            progress("decoding", done_bytes, total_bytes)


def _pixels_or_reason(path: Path) -> NDArray[np.uint8] | str:
    try:
        return _pixels(path)
    except UnidentifiedImageError:
        return "no image in a known format"
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise nearly anything
        return str(error) or type(error).__name__


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path, formats=_FORMATS) as image:
        # again by hand: a newer Python may keep the filters of warnings away from threads
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels; expected at most {_MAX_PIXELS}")
        return pixels(image)


def _check_failures(failures: Sequence[str], count: int) -> None:
    if failures:
        more = ", …" if len(failures) > _SHOWN else ""
        raise DataError(
            f"{len(failures)} of {count} images could not be read: {', '.join(failures[:_SHOWN])}{more}: remove or "
            "replace them"
        )
