"""Writes that happen wholly or leave nothing behind."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cifarnet.atomic import reason
from cifarnet.errors import DataError
from cifarnet.interruption import taken_away_if_ended


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a DataError that names the path."""
    try:
        yield
    except OSError as error:
        told = "the disk is full" if error.errno == errno.ENOSPC else reason(error)
        raise DataError(
            f"cannot write {path}: {told}; CIFAR-10 takes about 400 MB while it is fetched: make room, or set "
            "CIFARNET_CACHE to another folder"
        ) from error


def places(target: Path) -> tuple[Path, Path, Path]:
    """Return the folders that ``new_folder`` replaces or removes: the target, and where the new and the old one lie."""
    return target, target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the target's name and place when the block ends without an error.

    The caller holds a lock, so that leftovers of the two temporary names are from a process that died.
    """
    _, fresh, aside = places(target)
    with disk_errors(target):
        remove = partial(shutil.rmtree, fresh, ignore_errors=True)
        remove()
        with taken_away_if_ended(remove):
            fresh.mkdir(parents=True)
            try:
                yield fresh
                _put_in_place(fresh, target, aside)
            finally:
                remove()


def _put_in_place(fresh: Path, target: Path, aside: Path) -> None:
    """Rename; what was there steps aside first, because a full folder cannot be renamed over."""
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    fresh.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write bytes through to the system, so that a full disk is noticed here and not when the file is closed."""
    file.write(data)
    file.flush()


def flush_to_disk(file: BinaryIO) -> None:
    """Wait until the bytes would survive a power cut."""
    os.fsync(file.fileno())
