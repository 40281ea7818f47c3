"""The CIFAR-10 cache: four .npy files in one folder, each written atomically, which open in milliseconds."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from cifarnet.arguments import expanded
from cifarnet.atomic import write_atomically
from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import Dataset, Progress, Split, silent
from cifarnet.errors import DataError, IntegrityError, RunError, reason

from .cifar10 import CIFAR10, Release, check_records, records_from_split

CACHE_VARIABLE = "CIFARNET_CACHE"


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """Path of the cached CIFAR-10, whether all its files are present, and their size in bytes."""

    path: Path
    present: bool
    size_bytes: int


def cache_folder() -> Path:
    """Return the download folder: ``$CIFARNET_CACHE`` if set, otherwise the user's cache folder of the system."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return expanded(chosen) if chosen else platformdirs.user_cache_path("cifarnet", appauthor=False)


def cache_state(cache: Path | None = None, *, release: Release = CIFAR10) -> CacheState:
    """Return whether the files are in the cache, without opening them. None is the default cache."""
    folder = (cache_folder() if cache is None else cache) / release.name
    files = [folder / name for name in _expected_shapes(release)]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return CacheState(path=folder, present=len(sizes) == len(files), size_bytes=sum(sizes))


def open_cache(cache: Path | None = None, *, release: Release = CIFAR10) -> Dataset:
    """Open the cached release. The images are memory-mapped and read-only.

    Raises DataError if a file is missing, IntegrityError if one is truncated or has another shape. The pixels are not
    hashed; ``load_dataset`` and ``verify`` do that.
    """
    state = cache_state(cache, release=release)
    if not state.present:
        raise DataError(f"no {release.name} in {state.path.parent}: run `cifarnet data fetch`")
    train_images, train_labels, test_images, test_labels = (
        _open_array(state.path / name, shape) for name, shape in _expected_shapes(release).items()
    )
    return Dataset(
        name=release.name,
        train=Split(train_images, train_labels),
        test=Split(test_images, test_labels),
        labels=release.labels,
    )


def verify(
    cache: Path | None = None, progress: Progress | None = None, *, release: Release = CIFAR10
) -> dict[str, str]:
    """Rebuild every official file from the cache and compare its SHA-256.

    Returns the SHA-256 of each file by name. Raises IntegrityError that names the first file that differs.
    """
    report = progress or silent
    dataset = open_cache(cache, release=release)
    total_bytes = len(release.files) * release.file_bytes
    done_bytes = 0
    for files, split in ((release.train, dataset.train), (release.test, dataset.test)):
        for index, (name, sha256) in enumerate(files.items()):
            rows = slice(index * release.images_per_file, (index + 1) * release.images_per_file)
            check_records(records_from_split(Split(split.images[rows], split.labels[rows])), name, sha256)
            done_bytes += release.file_bytes
            report("verifying", done_bytes, total_bytes)
    return release.files


def write_cache(dataset: Dataset, folder: Path) -> None:
    """Write a verified dataset. Each file appears only once it is on disk. Raises DataError if the disk refuses."""
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        for part, split in (("train", dataset.train), ("test", dataset.test)):
            _write_array(folder / f"{part}-images.npy", split.images)
            _write_array(folder / f"{part}-labels.npy", split.labels)


def require_own_files(folder: Path, release: Release) -> None:
    """Raise ``DataError`` if writing the cache would replace a file that does not begin as one of the cache."""
    for name, shape in _expected_shapes(release).items():
        path = folder / name
        with disk_errors(path), path.open("rb") if os.path.lexists(path) else io.BytesIO() as file:
            start = file.read(len(_header(_dtype(shape), shape)))
        if not _header(_dtype(shape), shape).startswith(start):
            raise DataError(
                f"{path} is not a file of the {release.name} cache; expected a free name: move it, or set "
                f"{CACHE_VARIABLE} to another folder"
            )


def _dtype(shape: tuple[int, ...]) -> np.dtype[Any]:
    return np.dtype(np.uint8 if len(shape) == 4 else np.int32)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    file, described = io.BytesIO(), np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": described, "fortran_order": False, "shape": shape})
    return file.getvalue()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert an OSError, or the RunError of an atomic write, into a DataError that names the path."""
    try:
        yield
    except (OSError, RunError) as error:
        system = error.__cause__ or error
        cause = "the disk is full" if getattr(system, "errno", None) == errno.ENOSPC else reason(system)
        raise DataError(
            f"cannot write {path}: {cause}; CIFAR-10 takes about 400 MB while it is fetched: make room, or set "
            f"{CACHE_VARIABLE} to another folder"
        ) from error


def _expected_shapes(release: Release) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array by file name: images and labels of the training, then of the test split."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, files in (("train", release.train), ("test", release.test)):
        count = len(files) * release.images_per_file
        shapes |= {f"{part}-images.npy": (count, *IMAGE_SHAPE), f"{part}-labels.npy": (count,)}
    return shapes


def _write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file. numpy's own writer does not say that the disk is full."""
    write_atomically(path, _header(array.dtype, array.shape), np.ascontiguousarray(array).data)


def _open_array(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = _dtype(shape)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, reason(error)) from error
    if array.dtype != dtype or array.shape != shape:
        raise _damaged(path, f"it holds another array; expected {dtype} {shape}")
    return array.view(np.ndarray)


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged ({why}): run `cifarnet data fetch --force`")
