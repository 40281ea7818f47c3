"""Files that have their name only once they are whole: a crash at any instant leaves the old content or the new."""

import errno
import os
import platform
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from .errors import RunError
from .interruption import taken_away_if_ended


def _host() -> str:
    """Return eight digits for this machine, and for the container: process ids of others mean nothing here."""
    namespace = Path("/proc/self/ns/pid")
    container = namespace.readlink() if namespace.is_symlink() else ""
    return f"{zlib.crc32(f'{platform.node()} {container}'.encode()):08x}"


HOST = _host()
"""Marks the temporary files of this machine: on a shared disk others write too."""
TEMPORARY = re.compile(r"\..+-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-[0-9a-f]{8}\.part")
"""Name of a temporary file of this package, as ``temporary_name`` makes it."""
ABANDONED_S = 24 * 3600
"""Age in seconds at which a temporary file of another machine counts as abandoned: writing one takes seconds."""
LOST = frozenset((errno.EIO, errno.ENOSPC, errno.EDQUOT))
"""Errors of ``fsync`` after which data may be lost; the others say that the file system has no such operation."""


def write_atomically(path: Path, content: bytes) -> None:
    """Give ``content`` the name ``path`` only once it is whole and on the disk. Raises ``RunError`` when it cannot."""
    with written_aside(path, content) as publish:
        publish()


@contextmanager
def written_aside(path: Path, content: bytes) -> Iterator[Callable[[], None]]:
    """Write ``content`` to a temporary file beside ``path``, and yield the function that gives it the name.

    Unless that is called nothing stays, and what a killed process left in that folder goes. Raises ``RunError`` when
    the system refuses to write.
    """
    remove_abandoned(path.parent)
    temporary = temporary_name(path)
    try:
        with taken_away_if_ended(partial(temporary.unlink, missing_ok=True)):
            with naming(path), temporary.open("xb") as file:
                file.write(content)
                file.flush()
                _sync(file.fileno())
            yield naming(path)(partial(publish, temporary, path))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name ``path`` in the error where the system refuses to write it."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({reason(error)}): free some space or choose another folder"
        ) from error


@contextmanager
def locked(path: Path, in_use: str, way_out: str, *, timeout_s: float = 0) -> Iterator[None]:
    """Hold the lock file ``path``, which stays, for this process alone.

    Raises ``RunError``: with ``in_use`` where another process has it for longer than ``timeout_s``, and with
    ``way_out`` where the file system cannot lock.
    """
    from filelock import FileLock, Timeout  # imported here: it loads asyncio

    lock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(in_use) from error
    except (OSError, NotImplementedError) as error:  # the latter where older versions of filelock find no flock
        raise RunError(
            f"{path} could not be locked ({reason(error)}); expected a writable folder on a file system with file "
            f"locks: {way_out}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other thread, process or machine takes, for what is to be renamed to it."""
    return path.with_name(f".{path.name}-{HOST}-{os.getpid()}-{os.urandom(4).hex()}.part")


def remove_abandoned(folder: Path) -> None:
    """Remove from ``folder`` the temporary files of processes that were killed while they wrote, and nothing else."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):  # gone already, or not ours to remove
            if _is_abandoned(path):
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Return whether ``path`` is a temporary file of a process that is gone."""
    name = TEMPORARY.fullmatch(path.name)
    status = path.lstat()
    if name is None or stat.S_ISDIR(status.st_mode):
        return False
    if name["host"] == HOST and not _is_running(int(name["pid"])):
        return True
    return time.time() - status.st_mtime > ABANDONED_S


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file into place, durably."""
    temporary.replace(path)
    if hasattr(os, "O_DIRECTORY"):  # the folder entry is synced where the system can open folders
        with suppress(PermissionError):  # a folder that may be written to and not listed
            folder = os.open(path.parent, os.O_DIRECTORY)
            try:
                _sync(folder)
            finally:
                os.close(folder)


def _sync(descriptor: int) -> None:
    """Wait until a file or folder is on the disk, where the file system can: some network shares cannot for folders."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in LOST:
            raise


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, without the path of an ``OSError``."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def probe(path: Path) -> None:
    """Make and remove a temporary file beside ``path``, as ``write_atomically`` would. Raises ``OSError``."""
    temporary = temporary_name(path)
    with taken_away_if_ended(partial(temporary.unlink, missing_ok=True)):
        temporary.touch(exist_ok=False)
        temporary.unlink()


def require_writable(path: Path) -> None:
    """Raise ``RunError`` unless ``write_atomically`` may give a file the name ``path``; nothing is left behind."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe(path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({reason(error)}); expected a folder to write to: make room, change its "
            "permissions or copy the run elsewhere"
        ) from error
