"""Read known members out of a tar archive, in memory: nothing is ever extracted to disk."""

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cifarnet.atomic import reason
from cifarnet.contract import reason_or_pointer
from cifarnet.errors import DataError, IntegrityError

SUFFIXES = (".tar.gz", ".tgz", ".tar")

_MAX_MEMBERS = 1_000
_MAX_TOTAL_BYTES = 1_000_000_000
"""Five times CIFAR-10: a small archive that unfolds into more is a bomb."""


def read_members(path: Path, limits_bytes: Mapping[str, int]) -> dict[str, bytes]:
    """Read the members that are wanted and present.

    ``limits_bytes`` maps the names that are wanted to the most bytes that each may have. Returns the contents by
    name. Raises IntegrityError when the archive is truncated or no archive, DataError when a member's path leaves
    the archive or a wanted member is no plain file or too large.
    """
    with _opened(path) as archive:
        return {
            name: _content(archive, member, limits_bytes[name], path)
            for name, member in _safe_members(archive, path)
            if name in limits_bytes
        }


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
    """Yield the members one by one, stopping at the first that an honest archive does not have."""
    total_bytes = 0
    for count, member in enumerate(archive, start=1):
        total_bytes += member.size
        if count > _MAX_MEMBERS or total_bytes > _MAX_TOTAL_BYTES:
            raise DataError(f"{path} unfolds into {count} members, {total_bytes} bytes: use the official archive")
        yield _safe_name(member.name, path), member


def _safe_name(name: str, path: Path) -> str:
    """Return the name without ``./``; backslashes and drives count, because Windows would follow them."""
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
            f"{path} has {member.name} with {member.size} bytes, type {member.type!r}; expected a plain file of at "
            f"most {limit_bytes}: use the official archive"
        )
    return stream.read()
