"""Decode the image files of a folder, each only once: the decoded images are cached."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import locked
from cifarnet.contract import Shape
from cifarnet.dataset import Progress
from cifarnet.errors import DataError, RunError, SizeError, reason
from cifarnet.interrupt import Deferral, defer_interrupt
from cifarnet.preprocessing import LIMIT_VARIABLE, bombs_refused, read_pixels
from cifarnet.system import usable_cores

from .cifar10_cache import CACHE_VARIABLE
from .image_cache import MOST_BYTES, CachedImages, Stamp, cache_file, open_cached, write_cached

_MOST_THREADS = 16
"""Maximum number of threads that decode, which releases the interpreter lock. Each holds a whole image in memory."""


@dataclass
class Decoded:
    """Decoded images of files, and the reasons for those that cannot be read."""

    images: NDArray[np.uint8]
    """uint8 (n, height, width, 3), RGB, 0-255, possibly memory-mapped; black for files that cannot be read."""
    contents: list[bytes]
    """SHA-256 of each file; empty for files that cannot be read."""
    broken: dict[int, str]
    """Reasons by the positions of the files that cannot be read."""


def decode(folder: Path, paths: Sequence[Path], progress: Progress, shape: Shape) -> Decoded:
    """Return the preprocessed images of the files ``paths`` in ``folder``, in ``shape``, (height, width, 3).

    Images that are not in the cache are decoded on all cores, and then cached; a second process waits for the first
    one. If the cache cannot be used, all are decoded. Raises ``OSError`` for an error of the system.
    """
    stamps = [Stamp.of(folder, path) for path in paths]
    file = cache_file(folder, shape)
    cached = open_cached(file, shape)
    if cached is not None and all(stamp in cached.rows for stamp in stamps):
        return _from_cache(cached, stamps)
    with _locked(file, progress) as is_cached:
        cached = open_cached(file, shape)  # by the process that held the lock
        found, missing = _look_up(cached, stamps, shape)
        with defer_interrupt() as deferral:
            try:
                _decode_missing(found, missing, paths, [stamp.size_bytes for stamp in stamps], progress, deferral)
            finally:  # also after an error and Ctrl-C: what was decoded is kept
                if is_cached and any(found.contents[index] for index in missing):
                    _store(file, folder, stamps, found, progress)
    return found


def _from_cache(cached: CachedImages, stamps: Sequence[Stamp]) -> Decoded:
    rows = [cached.rows[stamp] for stamp in stamps]
    in_order = rows == list(range(len(cached.rows)))
    return Decoded(cached.pixels if in_order else cached.pixels[rows], [cached.contents[row] for row in rows], {})


def _look_up(cached: CachedImages | None, stamps: Sequence[Stamp], shape: Shape) -> tuple[Decoded, list[int]]:
    """Return the images in the cache, in the order of ``stamps``, and the positions of the others."""
    found = Decoded(np.zeros((len(stamps), *shape), np.uint8), [b""] * len(stamps), {})
    missing = []
    for index, stamp in enumerate(stamps):
        row = None if cached is None else cached.rows.get(stamp)
        if cached is None or row is None:
            missing.append(index)
        else:
            found.images[index], found.contents[index] = cached.pixels[row], cached.contents[row]
    return found, missing


def _decode_missing(
    found: Decoded,
    missing: Sequence[int],
    paths: Sequence[Path],
    sizes_bytes: Sequence[int],
    progress: Progress,
    deferral: Deferral,
) -> None:
    done_bytes, total_bytes = 0, sum(sizes_bytes[index] for index in missing)
    with bombs_refused():
        pool = ThreadPoolExecutor(min(usable_cores() or 1, _MOST_THREADS))
        try:
            decoded = pool.map(partial(_decoded, shape=found.images.shape[1:]), [paths[index] for index in missing])
            for index, (pixels, content) in zip(missing, decoded, strict=True):
                if isinstance(pixels, str):
                    found.broken[index] = pixels
                else:
                    found.images[index] = pixels
                    found.contents[index] = content
                done_bytes += sizes_bytes[index]
                progress("decoding", done_bytes, total_bytes)
                if deferral.pressed:
                    raise KeyboardInterrupt
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, do not decode the rest first


def _decoded(path: Path, shape: Shape) -> tuple[NDArray[np.uint8] | str, bytes]:
    """Return the pixels of a file, or the reason why it cannot be read, and the SHA-256 of a file that can."""
    try:
        pixels = read_pixels(path, shape)
    except SizeError as error:
        return f"{error}; scale it down or raise {LIMIT_VARIABLE}", b""
    except DataError as error:
        return str(error), b""
    with path.open("rb") as file:
        return pixels, file_digest(file, "sha256").digest()


@contextmanager
def _locked(file: Path, progress: Progress) -> Iterator[bool]:
    """Wait for other processes that decode the same images, and yield whether the cache can be used."""
    lock, way_out = file.with_suffix(".lock"), f"set {CACHE_VARIABLE} to another folder"
    waiting = partial(progress, "waiting for another process", 0, None)
    with ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(lock, "", way_out, timeout_s=-1, waiting=waiting))
        except (OSError, RunError) as error:
            progress(f"decoded images are not kept: {reason(error)}", 0, None)
            yield False
        else:
            yield True


def _store(file: Path, folder: Path, stamps: Sequence[Stamp], found: Decoded, progress: Progress) -> None:
    kept = [index for index, content in enumerate(found.contents) if content]
    if found.images.nbytes > MOST_BYTES:
        progress(f"decoded images are not kept: they take more than {MOST_BYTES >> 30} GiB", 0, None)
        return
    pixels = found.images if len(kept) == len(stamps) else found.images[kept]
    try:
        write_cached(file, folder, [stamps[i] for i in kept], [found.contents[i] for i in kept], pixels)
    except RunError as error:
        progress(f"decoded images are not kept: {error}", 0, None)
