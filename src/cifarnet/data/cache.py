"""The cache: CIFAR-10 as four .npy files that open in milliseconds."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from cifarnet.atomic import reason
from cifarnet.contract import IMAGE_SHAPE, Dataset, Split
from cifarnet.errors import DataError, IntegrityError

from .progress import Progress, silent
from .records import check_records, records_from_split
from .release import CIFAR10, RecordFile, Release
from .storage import flush_to_disk, new_folder, places, write_all

CACHE_VARIABLE = "CIFARNET_CACHE"

_CHUNK_BYTES = 1 << 23
"""8 MiB: a progress report every few hundredths of a second."""


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """Where CIFAR-10 is or would be, whether all its files are there, and the bytes that they take."""

    path: Path
    present: bool
    size_bytes: int


def cache_folder() -> Path:
    """Return the folder for downloads: ``$CIFARNET_CACHE``, else the operating system's cache folder of the user."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("cifarnet", appauthor=False)


def cache_state(cache: Path | None = None, *, release: Release = CIFAR10) -> CacheState:
    """Look whether the files are there, without opening them."""
    folder = release_folder(cache, release)
    files = [folder / name for name in _expected_shapes(release)]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return CacheState(path=folder, present=len(sizes) == len(files), size_bytes=sum(sizes))


def release_folder(cache: Path | None, release: Release) -> Path:
    """Return the folder of one release inside a cache."""
    return (cache_folder() if cache is None else cache) / release.name


def write_cache(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """Write a dataset whose bytes were proved; the folder appears only when it is complete and on the disk.

    Raises DataError when the disk refuses, and leaves no temporary file.
    """
    with new_folder(folder) as fresh:
        for part, split in (("train", dataset.train), ("test", dataset.test)):
            _write_array(fresh / f"{part}-images.npy", split.images, progress)
            _write_array(fresh / f"{part}-labels.npy", split.labels, progress)


def require_own(folder: Path, release: Release) -> None:
    """Raise DataError where writing the cache would delete what it did not write; nothing is changed."""
    for place in places(folder):
        is_own = place.is_dir() and not place.is_symlink()
        entries = sorted(place.iterdir()) if is_own else [place] if os.path.lexists(place) else []
        for entry in entries:
            if entry.name not in _expected_shapes(release) or not entry.is_file():
                raise DataError(
                    f"{entry} is no file of the cache and would be deleted; expected {place} free or with nothing else "
                    f"in it than {release.name}: move it away, or set {CACHE_VARIABLE} to another folder"
                )


def open_cache(cache: Path | None = None, *, release: Release = CIFAR10) -> Dataset:
    """Open the cached release; the images stay on disk and are read as they are used (read-only).

    Raises DataError when nothing is cached, IntegrityError when a file is truncated or of another shape. The pixels
    are not hashed here: that is what `verify` does.
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

    Returns the files, all of which were found unaltered. Raises IntegrityError that names the first that differs.
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


def _official_files(dataset: Dataset, release: Release) -> Iterator[tuple[RecordFile, Split]]:
    """Cut the splits into the files that they were joined from."""
    for files, split in ((release.train, dataset.train), (release.test, dataset.test)):
        for index, file in enumerate(files):
            rows = slice(index * release.images_per_file, (index + 1) * release.images_per_file)
            yield file, Split(split.images[rows], split.labels[rows])


def _expected_shapes(release: Release) -> dict[str, tuple[int, ...]]:
    counts = {part: len(files) * release.images_per_file for part, files in _parts(release)}
    images = {f"{part}-images.npy": (count, *IMAGE_SHAPE) for part, count in counts.items()}
    return images | {f"{part}-labels.npy": (count,) for part, count in counts.items()}


def _parts(release: Release) -> tuple[tuple[str, tuple[RecordFile, ...]], ...]:
    return ("train", release.train), ("test", release.test)


def _write_array(path: Path, array: NDArray[Any], progress: Progress) -> None:
    """Write a .npy file in chunks: numpy's own writer reports neither progress nor that the disk is full."""
    data = np.ascontiguousarray(array).data.cast("B")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for start in range(0, len(data), _CHUNK_BYTES):
            write_all(file, data[start : start + _CHUNK_BYTES])
            progress(f"writing {path.name}", min(start + _CHUNK_BYTES, len(data)), len(data))
        flush_to_disk(file)


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
