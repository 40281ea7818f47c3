"""Decode image files, and name every one that cannot be decoded."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE
from cifarnet.errors import DataError
from cifarnet.preprocessing import bombs_refused, read_pixels

from .progress import Progress

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
    with bombs_refused(), ThreadPoolExecutor(_THREADS) as pool:
        for outcome, size_bytes in zip(pool.map(_pixels_or_reason, paths), sizes_bytes, strict=True):
            yield outcome
            done_bytes += size_bytes
            progress("decoding", done_bytes, total_bytes)


def _pixels_or_reason(path: Path) -> NDArray[np.uint8] | str:
    try:
        return read_pixels(path)
    except DataError as error:
        return str(error)


def _check_failures(failures: Sequence[str], count: int) -> None:
    if failures:
        more = ", …" if len(failures) > _SHOWN else ""
        raise DataError(
            f"{len(failures)} of {count} images could not be read: {', '.join(failures[:_SHOWN])}{more}: remove or "
            "replace them"
        )
