"""Read a local copy of CIFAR-10: the binary or the Python version, as a folder or as a tar archive.

Nothing is extracted to disk, and no code in the Python version's pickles runs: the official files name three globals,
each of which is replaced by an inert class, and every other global is refused.
"""

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import reason_or_pointer
from cifarnet.dataset import Dataset
from cifarnet.errors import DataError, IntegrityError, reason

from .cifar10 import (
    PIXEL_BYTES,
    RecordFile,
    Records,
    Release,
    dataset_from_records,
    records_from_bytes,
    records_from_planes,
)

_SUBFOLDERS = ("", "cifar-10-batches-bin/", "cifar-10-batches-py/")
_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_MAX_MEMBERS = 1_000
_MAX_TOTAL_BYTES = 1_000_000_000
"""Five times the size of CIFAR-10. A larger archive is treated as a decompression bomb."""
_UINT8_NAMES = ("u1", b"u1", "|u1", b"|u1")
_LABELS_KEY = b"labels"
_PIXELS_KEY = b"data"


class _Candidate(NamedTuple):
    """A path where a file of the release may be stored, its size limit in bytes, and the function that reads it."""

    path: str
    file: RecordFile
    limit_bytes: int
    read: Callable[[bytes, RecordFile, Release], Records]


def holds_release(path: Path, release: Release) -> bool:
    """Return whether a path is a tar archive, or a folder with any file of the release."""
    if path.is_file():
        return path.name.lower().endswith(_SUFFIXES)
    return any((path / candidate.path).is_file() for candidate in _candidates(release))


def read_release(path: Path, release: Release) -> Dataset:
    """Read and verify the release in an archive or a folder. Nothing is written.

    Raises DataError if files are missing, IntegrityError if a file was altered.
    """
    reader = records_from_archive if path.is_file() else _records_from_folder
    return dataset_from_records(reader(path, release), release)


def records_from_archive(path: Path, release: Release) -> dict[str, Records]:
    """Return the records of every file of the release by file name. They are not verified yet."""
    limits_bytes = {candidate.path: candidate.limit_bytes for candidate in _candidates(release)}
    return _records(read_members(path, limits_bytes), path, release)


def read_members(path: Path, limits_bytes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the contents of the requested members of a tar archive by name, without those that it lacks.

    ``limits_bytes`` maps each requested name to its maximum size. Raises IntegrityError if the archive is truncated or
    not an archive, DataError if a member's path leaves the archive or a requested member is not a regular file or is
    too large.
    """
    with _opened(path) as archive:
        return {
            name: _content(archive, member, limits_bytes[name], path)
            for name, member in _safe_members(archive, path)
            if name in limits_bytes
        }


def _records_from_folder(path: Path, release: Release) -> dict[str, Records]:
    present = [candidate for candidate in _candidates(release) if (path / candidate.path).is_file()]
    contents = {candidate.path: _read(path / candidate.path, candidate.limit_bytes) for candidate in present}
    return _records(contents, path, release)


def _candidates(release: Release) -> list[_Candidate]:
    # A pickle holds the pixels and at most 100 bytes of label and file name per image.
    pickle_bytes = release.images_per_file * (PIXEL_BYTES + 100) + 65_536
    binary = [(file.name, file, release.file_bytes, records_from_bytes) for file in release.files]
    python = [(file.stem, file, pickle_bytes, _records_from_pickle) for file in release.files]
    return [
        _Candidate(subfolder + name, file, limit_bytes, read)
        for subfolder in _SUBFOLDERS
        for name, file, limit_bytes, read in binary + python
    ]


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise DataError(f"{path} is larger than {limit_bytes} bytes: it is not a file of CIFAR-10, remove it")
    return content


def _records(contents: Mapping[str, bytes], path: Path, release: Release) -> dict[str, Records]:
    records = {
        candidate.file.name: candidate.read(contents[candidate.path], candidate.file, release)
        for candidate in _candidates(release)
        if candidate.path in contents
    }
    missing = [file.name for file in release.files if file.name not in records]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; expected the {len(release.files)} files of the binary or the Python "
            "version: use the official archive"
        )
    return records


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise IntegrityError(
            f"{path} cannot be read as a tar archive ({reason_or_pointer(reason(error), path)}): download it again"
        ) from error


def _safe_members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the members and their normalized names. Raise DataError at the first unsafe one."""
    total_bytes = 0
    for count, member in enumerate(archive, start=1):
        total_bytes += member.size
        if count > _MAX_MEMBERS or total_bytes > _MAX_TOTAL_BYTES:
            raise DataError(f"{path} expands to {count} members, {total_bytes} bytes: use the official archive")
        yield _safe_name(member.name, path), member


def _safe_name(name: str, path: Path) -> str:
    """Return the name without ``./``. Backslashes and drive letters are checked because Windows follows them."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or parts[:1] == ("/",) or ":" in name:
        raise DataError(
            f"{path} has the member {name!r}, which leaves the archive: do not trust it, use the official one"
        )
    return "/".join(parts)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, limit_bytes: int, path: Path) -> bytes:
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None or member.size > limit_bytes:
        raise DataError(
            f"{path} has {member.name} with {member.size} bytes, type {member.type!r}; expected a regular file of at "
            f"most {limit_bytes}: use the official archive"
        )
    return stream.read()


class _Inert:
    """Stores the arguments and the state that a pickle passes to it, and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Array(_Inert):
    pass


class _Dtype(_Inert):
    pass


_KNOWN_GLOBALS: dict[tuple[str, str], type[_Inert]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _Dtype,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> type[_Inert]:
        known = _KNOWN_GLOBALS.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs")
        return known


def _records_from_pickle(data: bytes, file: RecordFile, release: Release) -> Records:
    """Return the records of one batch of the Python version.

    Raises IntegrityError if the pickle is damaged, names any other global, or holds unexpected arrays.
    """
    batch = _load_inert(data, file)
    labels = _labels(batch.get(_LABELS_KEY), file, release)
    return records_from_planes(_planes(batch.get(_PIXELS_KEY), file, release), labels)


def _load_inert(data: bytes, file: RecordFile) -> dict[object, Any]:
    try:
        batch = _InertUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise IntegrityError(f"{file.stem} cannot be read: {error}: use the official archive") from error
    if not isinstance(batch, dict):
        raise _unexpected(file, f"a {type(batch).__name__}", "a dictionary")
    return batch


def _planes(array: object, file: RecordFile, release: Release) -> NDArray[np.uint8]:
    """Return the pixels, uint8 (n, 3072), of an inert array."""
    shape, pixels = _array_parts(array, file)
    expected = (release.images_per_file, PIXEL_BYTES)
    if shape != expected:
        raise _unexpected(file, f"an array of shape {shape}", str(expected))
    if not isinstance(pixels, bytes) or len(pixels) != expected[0] * expected[1]:
        raise _unexpected(file, "pixels of another length", f"{expected[0] * expected[1]} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(expected)


def _array_parts(array: object, file: RecordFile) -> tuple[object, object]:
    """Return shape and bytes of a C-ordered uint8 array. numpy's state is (version, shape, dtype, order, bytes)."""
    state = array.state if isinstance(array, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise _unexpected(file, "no array of pixels", f"one under {_PIXELS_KEY!r}")
    _, shape, dtype, is_fortran, pixels = state
    if not isinstance(dtype, _Dtype) or dtype.arguments[:1] not in [(name,) for name in _UINT8_NAMES]:
        raise _unexpected(file, "an array of another dtype", "uint8")
    if is_fortran:
        raise _unexpected(file, "an array in Fortran order", "C order")
    return shape, pixels


def _labels(labels: object, file: RecordFile, release: Release) -> NDArray[np.int32]:
    if not isinstance(labels, list) or len(labels) != release.images_per_file:
        raise _unexpected(file, "no list of labels, or one of another length", f"{release.images_per_file} labels")
    # bool is a subclass of int, and numpy would convert True to 1
    if not all(type(label) is int and 0 <= label < len(release.labels) for label in labels):
        raise _unexpected(file, "a label that is out of range", f"0 to {len(release.labels) - 1}")
    return np.asarray(labels, np.int32)


def _unexpected(file: RecordFile, content: str, expected: str) -> IntegrityError:
    return IntegrityError(f"{file.stem} holds {content}; expected {expected}: use the official archive")
