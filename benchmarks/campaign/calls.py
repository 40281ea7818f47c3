"""Intercept each call of this process that changes the file system below a folder, before and after it happens.

Python's own calls are seen: ``open`` for writing and each write that reaches the system, fsync, rename, mkdir, unlink,
symlink, and locks. Writes inside a C library (HDF5) are not.
"""

import builtins
import fcntl
import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "symlink", "open")


@dataclass(frozen=True)
class Call:
    """One call that is about to happen, or has just happened."""

    name: str
    path: str
    half: Callable[[], object] = lambda: None
    """Do half of it: half of the bytes of a write; for an fsync, cut the file to half its length."""

    def __str__(self) -> str:
        return f"{self.name} {Path(self.path).name}"


Seen = Callable[[Call], object]
Around = Callable[[Call, Callable[[], Any]], Any]


def watch(folder: Path, before: Seen, after: Seen = lambda _: None) -> None:
    """Call ``before`` and ``after`` around each call below ``folder``, for the rest of this process."""
    root = os.path.realpath(folder)

    def around(call: Call, original: Callable[[], Any]) -> Any:
        if not call.path.startswith(root):
            return original()
        before(call)
        result = original()
        after(call)
        return result

    for name in NAMES:
        setattr(os, name, _wrapped(name, getattr(os, name), around))
    fcntl.flock = _wrapped("flock", fcntl.flock, around)
    io.open = builtins.open = _opening(io.open, around)


def _wrapped(name: str, original: Callable[..., Any], around: Around) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return original(*args, **options)
        target = args[1] if name in ("replace", "rename", "symlink") else args[0]
        half = (lambda: _halve(target)) if name == "fsync" else (lambda: None)
        return around(Call(name, _path(target, options.get("dir_fd")), half), lambda: original(*args, **options))

    return call


def _halve(descriptor: int) -> None:
    with suppress(OSError):  # a folder, or a file that is open for reading, cannot be cut
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


def _path(target: Any, folder: int | None = None) -> str:
    """Return the whole path of a file that is named by its path or by its descriptor."""
    if isinstance(target, int):
        with suppress(OSError):
            return str(Path(f"/proc/self/fd/{target}").readlink())
        return ""
    path = (Path(_path(folder)) if folder is not None else Path.cwd()) / os.fsdecode(target)
    return os.path.normpath(path.parent.resolve() / path.name)


def _opening(original: Callable[..., Any], around: Around) -> Callable[..., Any]:
    class Watched(io.FileIO):
        """A file whose writes are seen one by one."""

        def write(self, data: Any) -> int:
            content, write = bytes(data), super().write
            half = lambda: write(content[: len(content) // 2])  # noqa: E731  # `super` needs this scope
            return around(Call("write", _path(self.fileno()), half), lambda: write(content))

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,  # noqa: FBT001, FBT002  # as the built-in has it
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+"):
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
        plain = mode.replace("b", "").replace("t", "")
        raw = around(Call("open", _path(file)), lambda: Watched(file, plain, closefd, opener))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in plain else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return opened
