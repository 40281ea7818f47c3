"""Atomic file writes and file locks: after a crash a file has either its old or its new content."""

import errno
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from .errors import RunError, reason, shown


def _host() -> str:
    """Return eight hex digits that identify this machine and container, because process IDs are only valid there."""
    namespace = Path("/proc/self/ns/pid")
    container = namespace.readlink() if namespace.is_symlink() else ""
    return f"{zlib.crc32(f'{platform.node()} {container}'.encode()):08x}"


HOST = _host()
"""Identifies temporary files of this machine; a shared disk may have those of others."""
TEMPORARY = re.compile(r"\..+-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-[0-9a-f]{8}\.part")
"""Pattern of the names of temporary files and folders; see ``temporary_name``."""
ABANDONED_S = 24 * 3600
"""Age, in seconds, at which a temporary file of another machine is considered abandoned. Writing takes seconds."""
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Errors of a full disk."""
LOST = FULL | {errno.EIO}
"""Errors of ``fsync`` after which data may be lost. Other errors mean that the file system does not support it."""


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a file atomically: its name appears once its content is on disk. Raises ``RunError`` if that fails."""
    with written_aside(path, *content) as publish:
        publish()


@contextmanager
def written_aside(path: Path, *content: bytes | memoryview) -> Iterator[Callable[[], None]]:
    """Write ``content`` to a temporary file beside ``path``, and yield a function that renames it to ``path``.

    The temporary file is removed if that function is not called, and so are those of killed processes. Raises
    ``RunError`` if the file cannot be written.
    """
    remove_abandoned(path.parent)
    temporary = temporary_name(path)
    try:
        with naming(path), temporary.open("xb") as file:
            file.writelines(content)
            file.flush()
            _sync(file.fileno())
        yield naming(path)(partial(publish, temporary, path))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Convert an ``OSError`` into a ``RunError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} could not be written ({reason(error)}): {_advice(path, error)}") from error


def _advice(path: Path, error: OSError) -> str:
    if error.errno in FULL:
        return "free some space or choose another folder"
    missing = (folder for folder in reversed(path.parents) if not folder.exists())
    if error.errno == errno.ENOENT and (gone := next(missing, None)):
        return (
            f"there is no folder {shown(gone)}, perhaps because it was moved or deleted meanwhile: start again, or "
            "continue a run that was moved with `cifarnet train --resume` and its new path"
        )
    return "check its permissions or choose another folder"


@contextmanager
def locked(
    path: Path, in_use: str, way_out: str, *, timeout_s: float = 0, waiting: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Hold an exclusive lock on the lock file ``path``, which is not removed.

    If another process holds it, ``waiting`` is called. Raises ``RunError`` with the message ``in_use`` if that takes
    longer than ``timeout_s`` (-1 is no limit), and with ``way_out`` as the solution if the file system does not support
    locks.
    """
    from filelock import FileLock, Timeout  # imported here: it loads asyncio

    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise RunError(in_use) from error
    except (OSError, NotImplementedError) as error:  # older versions of filelock raise the latter without flock
        raise RunError(
            f"{path} could not be locked ({reason(error)}); expected a writable folder on a file system with file "
            f"locks: {way_out}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def temporary_name(path: Path) -> Path:
    """Return the path of a temporary file or folder beside ``path``, unique to this call on any machine."""
    return path.with_name(f".{path.name}-{HOST}-{os.getpid()}-{os.urandom(4).hex()}.part")


def is_temporary(name: str) -> bool:
    """Return whether ``name`` is one that ``temporary_name`` makes."""
    return TEMPORARY.fullmatch(name) is not None


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes from ``folder``, and nothing else."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):  # already removed, or no permission
            if _is_abandoned(path):
                remove = shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink
                remove(path)


def _is_abandoned(path: Path) -> bool:
    """Return whether ``path`` is a temporary file or folder of a process that no longer exists."""
    name = TEMPORARY.fullmatch(path.name)
    if name is None:
        return False
    if name["host"] == HOST and not _is_running(int(name["pid"])):
        return True
    return time.time() - path.lstat().st_mtime > ABANDONED_S


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


def own_process() -> str:
    """Return a text that identifies this process, on any machine and even if its process ID is used again."""
    return f"{HOST}-{os.getpid()}-{_started(os.getpid())}"


def has_ended(process: str) -> bool:
    """Return whether a process, as ``own_process`` identifies it, has ended; False if that is not known."""
    host, pid, started = process.split("-")
    return host == HOST and (not _is_running(int(pid)) or _started(int(pid)) not in (started, ""))


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since the boot, or "" if the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()  # field 22, see proc(5)
    except (OSError, IndexError):
        return ""


@contextmanager
def temporary_folder(path: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, by default in the system's folder for temporary files.

    If this process is killed or ends on Ctrl-C, the next call for the same place removes the folder.
    """
    path = path or Path(tempfile.gettempdir()) / "cifarnet"
    remove_abandoned(path.parent)
    folder = temporary_name(path)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(temporary: Path, path: Path) -> None:
    """Rename a complete temporary file or folder to ``path`` and sync the folder that holds it."""
    temporary.replace(path)
    if hasattr(os, "O_DIRECTORY"):  # not on Windows, which cannot open folders
        with suppress(PermissionError):  # a folder with write but no read permission
            folder = os.open(path.parent, os.O_DIRECTORY)
            try:
                _sync(folder)
            finally:
                os.close(folder)


def _sync(descriptor: int) -> None:
    """Sync a file or folder to disk, if the file system supports it; some network shares do not for folders."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in LOST:
            raise


def probe(path: Path) -> None:
    """Create and remove a temporary file beside ``path``, to test write access. Raises ``OSError``."""
    temporary = temporary_name(path)
    temporary.touch(exist_ok=False)
    temporary.unlink()


def require_writable(path: Path) -> None:
    """Raise ``RunError`` unless ``write_atomically`` can write ``path``."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe(path)
    except OSError as error:
        raise RunError(
            f"{shown(path)} cannot be written ({reason(error)}); expected a folder to write to: make room, change its "
            "permissions or copy the run elsewhere"
        ) from error
