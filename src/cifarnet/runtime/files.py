"""Find the image files in paths and, recursively and in sorted order, in folders."""

import hashlib
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifarnet.arguments import described
from cifarnet.errors import DataError, UsageError, reason

ALL = (0, 1)
"""The shard that contains every file."""


@dataclass(frozen=True)
class Found:
    """A file to classify, or a path with the reason why there is none."""

    path: Path
    error: DataError | None = None


def find_images(paths: Iterable[str | os.PathLike[str]], shard: tuple[int, int] = ALL) -> Iterator[Found]:
    """Yield each file in ``paths`` and the image files in each folder.

    In folders, hidden names, files without an image extension and links to folders are skipped. A folder without
    images or one that cannot be listed is yielded with an error.

    ``shard`` is the index of a shard, from 0, and the number of shards; only its files are yielded. A file's shard
    depends on nothing but its name as given, or its path below the folder given. Raises ``UsageError`` for an index
    without a shard.
    """
    try:
        index, count = map(operator.index, shard)
        is_one = 0 <= index < count
    except (TypeError, ValueError):
        is_one = False
    if not is_one:
        raise UsageError(f"shard is {shard!r:.60}; expected (I, N), I from 0 to N-1, such as (0, 8): count from 0")
    return _found(paths) if count == 1 else _share(paths, index, count)


def count_unread(paths: Iterable[str | os.PathLike[str]]) -> Counter[str]:
    """Return the number of files of each extension that ``find_images`` skips in folders, except hidden ones."""
    unread: Counter[str] = Counter()
    for folder in filter(_is_folder, map(Path, paths)):
        for _ in _walk(folder, unread):
            pass
    return unread


def shard_of(name: str, count: int) -> int:
    """Return the shard, 0 to ``count`` - 1, of a file."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest()) % count


def _share(paths: Iterable[str | os.PathLike[str]], index: int, count: int) -> Iterator[Found]:
    for given in paths:
        for found in _found([given]):
            is_inside = isinstance(given, str | os.PathLike) and found.path != Path(given)
            # A folder's own path may be another one on another machine.
            name = found.path.relative_to(given) if is_inside else found.path
            if shard_of(name.as_posix(), count) == index:
                yield found


def _found(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    for given in paths:
        if not isinstance(given, str | os.PathLike):
            yield Found(Path(f"<{type(given).__name__}>"), _no_path(given))
            continue
        path = Path(given)
        if not os.fspath(given):  # Path("") is the working directory
            yield Found(path, DataError("an image path is empty; expected a file or folder: is the variable set?"))
            continue
        if not _is_folder(path):
            yield Found(path)
            continue
        is_empty = True
        for found in _walk(path):
            is_empty = False
            yield found
        if is_empty:
            yield Found(path, _without_images(path))


def _no_path(given: object) -> DataError:
    return DataError(
        f"an image path is {described(given)}; expected text or a path: images in memory go to the classifier itself"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # for example a name that is too long: reading the file raises a better error
        return False


def _without_images(folder: Path) -> DataError:
    from cifarnet.preprocessing import EXTENSIONS

    return DataError(
        f"{folder} has no images; expected at least one file, at any depth, ending in {' '.join(EXTENSIONS)}: "
        "add images or pass another folder"
    )


def _walk(folder: Path, unread: Counter[str] | None = None) -> Iterator[Found]:
    """Yield the images in a folder, recursively, sorted by the parts of their paths; count the other files.

    Not a recursive function, since folders may be nested deeper than Python's recursion limit.
    """
    stack = [(folder, _sorted_entries(folder))]
    while stack:
        place, entries = stack[-1]
        try:
            entry = next(entries, None)
        except OSError as error:
            entry = None
            yield Found(
                place,
                DataError(
                    f"{place} cannot be listed ({reason(error)}); expected a readable folder: check its permissions"
                ),
            )
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            stack.append((Path(entry.path), _sorted_entries(Path(entry.path))))
        elif _is_image(entry):
            yield Found(Path(entry.path))
        elif unread is not None and entry.is_file():
            unread[Path(entry.name).suffix.lower()] += 1


def _sorted_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder sorted by name, except hidden ones and those of the system."""
    from cifarnet.preprocessing import is_hidden

    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not is_hidden(entry.name)]
    yield from sorted(shown, key=lambda entry: entry.name)


def _is_image(entry: os.DirEntry[str]) -> bool:
    from cifarnet.preprocessing import EXTENSIONS

    try:
        is_file = entry.is_file() or (entry.is_symlink() and not entry.is_dir())  # a broken link is reported when read
        return entry.name.lower().endswith(EXTENSIONS) and is_file
    except OSError:  # for example a circular link: reading the file raises a better error
        return True
