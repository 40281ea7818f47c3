"""The cache of decoded images: one file per image folder and image size, each written atomically and memory-mapped.

A file consists of the line ``MAGIC``, a line of JSON that describes the folder and its images, and the pixels. Its lock
only prevents two processes from decoding the same images at the same time.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from cifarnet.atomic import write_atomically
from cifarnet.contract import RECIPE, Shape
from cifarnet.preprocessing import VERSION

from .cifar10_cache import cache_folder

MAGIC = b"cifarnet images 1\n"
"""First line of a cache file; the number is the version of its layout."""
FOLDER = "images"
"""Name of the folder of the cache files in the cache of cifarnet."""
MOST_BYTES = 4 * 1024**3
"""Maximum size of all cache files together: 1.3 million images of 32x32 pixels. The least recently used are deleted."""
DECODERS = ("libjpeg_turbo", "jpg", "webp", "avif")
"""Libraries of lossy formats, whose versions may decode the same file to other pixels."""
_NAME = re.compile(r"[0-9a-f]{32}\.pixels")


class Stamp(NamedTuple):
    """Identifies a version of an image file: a file with the same stamp is assumed to be unchanged."""

    name: str
    """Path in the folder."""
    size_bytes: int
    modified_ns: int
    changed_ns: int
    """Time of the last change of the content, name or attributes, which unpacking and copying do not preserve."""
    inode: int

    @classmethod
    def of(cls, folder: Path, path: Path) -> Self:
        """Return the stamp of the file ``path`` in ``folder``. Raises ``OSError``."""
        status = path.stat()
        name = str(path.relative_to(folder))
        return cls(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True)
class CachedImages:
    """The content of a cache file."""

    rows: Mapping[Stamp, int]
    """Row of each image in ``pixels`` and ``contents``."""
    contents: Sequence[bytes]
    """SHA-256 of each image file."""
    pixels: NDArray[np.uint8]
    """uint8 (n, height, width, 3), memory-mapped."""


@dataclass(frozen=True, kw_only=True)
class CachedFolder:
    """A cache file, its image folder, number and size of the images in pixels, and size of the file in bytes."""

    path: Path
    folder: str
    images: int
    height: int
    width: int
    size_bytes: int


def cache_file(folder: Path, shape: Shape) -> Path:
    """Return the cache file of the images in ``folder`` in the size ``shape``, as this version preprocesses them."""
    decoders = [PIL.__version__, *(features.version(name) for name in DECODERS)]
    decoders += _versions("pillow-heif")
    steps = dict(RECIPE) | {"height": shape[0], "width": shape[1]}
    key = json.dumps([str(folder.resolve()), VERSION, steps, decoders])
    return cache_folder() / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pixels"


def _versions(optional: str) -> list[str]:
    """Return the version of an optional package, or nothing without it."""
    try:
        return [version(optional)]
    except PackageNotFoundError:
        return []


def open_cached(path: Path, shape: Shape) -> CachedImages | None:
    """Return the images in a cache file, or None if it is missing or damaged. Marks the file as just used."""
    try:
        offset, head = _read_head(path)
        pixels = np.memmap(path, np.uint8, "r", offset, (len(head["files"]), *shape)).view(np.ndarray)
        if zlib.crc32(pixels.data) != head["crc32"]:
            return None
        rows = {Stamp(*file[:-1]): row for row, file in enumerate(head["files"])}
        contents = [bytes.fromhex(file[-1]) for file in head["files"]]
    except (OSError, ValueError, KeyError, TypeError):  # the images are decoded again
        return None
    with suppress(OSError):  # the cache of another user
        os.utime(path)
    return CachedImages(rows, contents, pixels)


def write_cached(path: Path, folder: Path, stamps: Sequence[Stamp], contents: Sequence[bytes], pixels: Any) -> None:
    """Write a cache file and delete the least recently used ones above ``MOST_BYTES``. Raises ``RunError``."""
    files = [(*stamp, content.hex()) for stamp, content in zip(stamps, contents, strict=True)]
    shape = dict(zip(("height", "width"), pixels.shape[1:3], strict=True))
    head = {"folder": str(folder.resolve()), **shape, "crc32": zlib.crc32(pixels.data), "files": files}
    write_atomically(path, MAGIC, f"{json.dumps(head)}\n".encode(), pixels.data)
    _limit(path)


def cached_folders() -> list[CachedFolder]:
    """Return the image folders in the cache, the most recently used first."""
    found = []
    for path in _files():
        with suppress(OSError, ValueError, KeyError, TypeError):
            _, head = _read_head(path)
            sizes = {"height": head["height"], "width": head["width"], "size_bytes": path.stat().st_size}
            found.append(CachedFolder(path=path, folder=head["folder"], images=len(head["files"]), **sizes))
    return found


def clear_cached_folders() -> None:
    """Delete all cache files, and nothing else. Raises ``OSError``."""
    for path in _files():
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _limit(newest: Path) -> None:
    """Delete the least recently used cache files above ``MOST_BYTES``, but not ``newest``."""
    total_bytes = 0
    for path in _files():
        with suppress(OSError):  # deleted by another process
            total_bytes += path.stat().st_size
            if total_bytes > MOST_BYTES and path != newest:
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)


def _files() -> list[Path]:
    """Return the cache files, the most recently used first. Other files are not ours to show or delete."""
    used = {}
    for path in (cache_folder() / FOLDER).glob("*.pixels"):
        with suppress(OSError):
            with path.open("rb") as file:
                is_ours = file.read(len(MAGIC)) == MAGIC
            if is_ours and _NAME.fullmatch(path.name):
                used[path] = path.stat().st_mtime_ns
    return sorted(used, key=used.__getitem__, reverse=True)


def _read_head(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the position of the pixels and the description before it. Raises ``ValueError`` for other files."""
    with path.open("rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise ValueError("no cache file of this version")
        head: dict[str, Any] = json.loads(file.readline())
        return file.tell(), head
