"""The CIFAR-10 cache: four .npy files in one folder, which is written atomically and opens in milliseconds."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import DataError, IntegrityError, reason
from cifarnet.interruption import cleanup_on_interrupt

from .cifar10 import CIFAR10, RecordFile, Release, check_records, records_from_split
from .progress import Progress, silent

CACHE_VARIABLE = "CIFARNET_CACHE"

_CHUNK_BYTES = 1 << 23
"""8 MiB, for a progress report every few hundredths of a second."""


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """Path of the cached CIFAR-10, whether all its files are present, and their size in bytes."""

    path: Path
    present: bool
    size_bytes: int


def cache_folder() -> Path:
    """Return the download folder: ``$CIFARNET_CACHE`` if set, otherwise the user's cache folder of the system."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("cifarnet", appauthor=False)


def cache_state(cache: Path | None = None, *, release: Release = CIFAR10) -> CacheState:
    """Return whether the files are in the cache, without opening them."""
    folder = release_folder(cache, release)
    files = [folder / name for name in _expected_shapes(release)]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return CacheState(path=folder, present=len(sizes) == len(files), size_bytes=sum(sizes))


def release_folder(cache: Path | None, release: Release) -> Path:
    """Return the folder of a release in a cache; None is the default cache."""
    return (cache_folder() if cache is None else cache) / release.name


def open_cache(cache: Path | None = None, *, release: Release = CIFAR10) -> Dataset:
    """Open the cached release. The images are memory-mapped and read-only.

    Raises DataError if nothing is cached, IntegrityError if a file is truncated or has another shape. The pixels are
    not hashed; use ``verify`` for that.
    """
    folder = release_folder(cache, release)
    if not folder.is_dir():
        raise DataError(f"no {release.name} in {folder.parent}: run `cifarnet data fetch`")
    opened = {name: _open_array(folder / name, shape) for name, shape in _expected_shapes(release).items()}
    return Dataset(
        name=release.name,
        train=Split(opened["train-images.npy"], opened["train-labels.npy"]),
        test=Split(opened["test-images.npy"], opened["test-labels.npy"]),
        labels=release.labels,
    )


def verify(
    cache: Path | None = None, progress: Progress | None = None, *, release: Release = CIFAR10
) -> list[RecordFile]:
    """Rebuild every official file from the cache and compare its SHA-256.

    Returns the verified files. Raises IntegrityError that names the first file that differs.
    """
    report = progress or silent
    dataset = open_cache(cache, release=release)
    verified: list[RecordFile] = []
    for file, part in _official_files(dataset, release):
        report("verifying", len(verified) * release.file_bytes, len(release.files) * release.file_bytes)
        check_records(records_from_split(part), file, release)
        verified.append(file)
    report("verifying", len(verified) * release.file_bytes, len(verified) * release.file_bytes)
    return verified


def require_own(folder: Path, release: Release) -> None:
    """Raise DataError if writing the cache would delete other files. Nothing is changed."""
    for place in _places(folder):
        is_own = place.is_dir() and not place.is_symlink()
        entries = sorted(place.iterdir()) if is_own else [place] if os.path.lexists(place) else []
        for entry in entries:
            if entry.name not in _expected_shapes(release) or not entry.is_file():
                raise DataError(
                    f"{entry} is not a file of the cache and would be deleted; expected {place} to be free or to hold "
                    f"only {release.name}: move it away, or set {CACHE_VARIABLE} to another folder"
                )


def write_cache(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """Write a verified dataset. The folder appears only once all its files are on disk.

    Raises DataError if the disk refuses, and leaves no temporary file.
    """
    with new_folder(folder) as fresh:
        for part, split in (("train", dataset.train), ("test", dataset.test)):
            _write_array(fresh / f"{part}-images.npy", split.images, progress)
            _write_array(fresh / f"{part}-labels.npy", split.labels, progress)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert an OSError into a DataError that names the path."""
    try:
        yield
    except OSError as error:
        cause = "the disk is full" if error.errno == errno.ENOSPC else reason(error)
        raise DataError(
            f"cannot write {path}: {cause}; CIFAR-10 takes about 400 MB while it is fetched: make room, or set "
            f"{CACHE_VARIABLE} to another folder"
        ) from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which replaces ``target`` if the block ends without an error.

    The caller holds a lock, so leftovers under the two temporary names belong to a process that died.
    """
    _, fresh, old = _places(target)
    with disk_errors(target):
        remove = partial(shutil.rmtree, fresh, ignore_errors=True)
        remove()
        with cleanup_on_interrupt(remove):
            fresh.mkdir(parents=True)
            try:
                yield fresh
                _replace(target, fresh, old)
            finally:
                remove()


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write and flush, so that a full disk is an error here and not when the file is closed."""
    file.write(data)
    file.flush()


def _places(target: Path) -> tuple[Path, Path, Path]:
    """Return the folders that ``new_folder`` replaces or removes: the target, the new and the old one."""
    return target, target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _replace(target: Path, fresh: Path, old: Path) -> None:
    """Move the existing target away first, because a folder that is not empty cannot be renamed over."""
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _official_files(dataset: Dataset, release: Release) -> Iterator[tuple[RecordFile, Split]]:
    """Yield each official file with its images and labels."""
    for files, split in ((release.train, dataset.train), (release.test, dataset.test)):
        for index, file in enumerate(files):
            rows = slice(index * release.images_per_file, (index + 1) * release.images_per_file)
            yield file, Split(split.images[rows], split.labels[rows])


def _expected_shapes(release: Release) -> dict[str, tuple[int, ...]]:
    parts = (("train", release.train), ("test", release.test))
    counts = {part: len(files) * release.images_per_file for part, files in parts}
    images = {f"{part}-images.npy": (count, *IMAGE_SHAPE) for part, count in counts.items()}
    return images | {f"{part}-labels.npy": (count,) for part, count in counts.items()}


def _write_array(path: Path, array: NDArray[Any], progress: Progress) -> None:
    """Write a .npy file in chunks: numpy's own writer neither reports progress nor a full disk."""
    data = np.ascontiguousarray(array).data.cast("B")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for start in range(0, len(data), _CHUNK_BYTES):
            write_all(file, data[start : start + _CHUNK_BYTES])
            progress(f"writing {path.name}", min(start + _CHUNK_BYTES, len(data)), len(data))
        os.fsync(file.fileno())


def _open_array(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = np.dtype(np.uint8 if len(shape) == 4 else np.int32)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, reason(error)) from error
    if not isinstance(array, np.memmap) or array.dtype != dtype or array.shape != shape or array.flags.fnc:
        raise _damaged(path, f"it holds another array; expected {dtype} {shape}")
    if array.offset + array.nbytes != path.stat().st_size:
        raise _damaged(path, f"it has {path.stat().st_size} bytes; expected {array.offset + array.nbytes}")
    return array.view(np.ndarray)


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged ({why}): run `cifarnet data fetch --force`")
