"""Read CIFAR-10 where a person has it: the binary or the Python version, as a folder or as an archive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cifarnet.contract import Dataset
from cifarnet.errors import DataError

from .archives import SUFFIXES, read_members
from .pickles import records_from_pickle, size_limit_bytes
from .records import Records, dataset_from_records, records_from_bytes
from .release import RecordFile, Release

_SUBFOLDERS = ("", "cifar-10-batches-bin/", "cifar-10-batches-py/")


@dataclass(frozen=True)
class _Candidate:
    """A path under which a file of the release may lie, and how to read it."""

    path: str
    file: RecordFile
    limit_bytes: int
    read: Callable[[bytes, RecordFile, Release], Records]


def holds_release(path: Path, release: Release) -> bool:
    """Tell whether a path is a tar archive, or a folder with any file of the release."""
    if path.is_file():
        return path.name.lower().endswith(SUFFIXES)
    return any((path / candidate.path).is_file() for candidate in _candidates(release))


def read_release(path: Path, release: Release) -> Dataset:
    """Read and prove the release in an archive or a folder; nothing is written.

    Raises DataError when files are missing, IntegrityError when one was altered.
    """
    reader = records_from_archive if path.is_file() else records_from_folder
    return dataset_from_records(reader(path, release), release)


def records_from_archive(path: Path, release: Release) -> dict[str, Records]:
    """Read the records of every file of the release, by file name; they are not proved yet."""
    limits_bytes = {candidate.path: candidate.limit_bytes for candidate in _candidates(release)}
    return _records(read_members(path, limits_bytes), path, release)


def records_from_folder(path: Path, release: Release) -> dict[str, Records]:
    """Read the records of every file of the release, by file name; they are not proved yet."""
    present = [candidate for candidate in _candidates(release) if (path / candidate.path).is_file()]
    contents = {candidate.path: _read(path / candidate.path, candidate.limit_bytes) for candidate in present}
    return _records(contents, path, release)


def _candidates(release: Release) -> list[_Candidate]:
    binary = [(file.name, file, release.file_bytes, records_from_bytes) for file in release.files]
    python = [(file.stem, file, size_limit_bytes(release), records_from_pickle) for file in release.files]
    return [
        _Candidate(subfolder + name, file, limit_bytes, read)
        for subfolder in _SUBFOLDERS
        for name, file, limit_bytes, read in binary + python
    ]


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise DataError(f"{path} is larger than {limit_bytes} bytes: it is no file of CIFAR-10, remove it")
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
