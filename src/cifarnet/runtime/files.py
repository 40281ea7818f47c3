"""The image files that paths stand for, found one after the other: those of a folder at any depth, in sorted order."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from cifarnet.errors import DataError

WINDOW = 20_000
"""Names of one folder that are held at once. A larger folder is listed again for the next ones: sorting it whole would
take memory that grows with it, and listing is quick beside decoding."""


@dataclass(frozen=True)
class Found:
    """A file to classify, or the folder in which none could be found, with the reason."""

    path: Path
    error: DataError | None = None


def find_images(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """Yield each file of ``paths`` as it is, and for each folder the image files in it, in constant memory.

    In folders, hidden names, files without an image extension and links to folders are left out. A folder without
    images, or one that cannot be listed, is yielded with its error.
    """
    for given in paths:
        if not isinstance(given, str | os.PathLike):
            yield Found(Path(f"<{type(given).__name__}>"), _no_path(given))
            continue
        path = Path(given)
        if not os.fspath(given):  # to Path this is the working folder
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
        f"an image path is a {type(given).__name__}; expected text or a path: images in memory go to the classifier "
        "itself"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder that may not be entered: reading it will say what is wrong
        return False


def _without_images(folder: Path) -> DataError:
    from cifarnet.preprocessing import EXTENSIONS

    return DataError(
        f"{folder} has no images; expected at least one file, at any depth, ending in {' '.join(EXTENSIONS)}: "
        "add images or pass another folder"
    )


def _walk(folder: Path) -> Iterator[Found]:
    """Yield the images of a folder and of those in it, sorted by the parts of their paths.

    With a stack of its own: folders may lie deeper in each other than Python's calls may.
    """
    stack = [(folder, _sorted_entries(folder))]
    while stack:
        place, entries = stack[-1]
        try:
            entry = next(entries, None)
        except OSError as error:
            entry = None
            reason = error.strerror or error
            yield Found(
                place, DataError(f"{place} cannot be listed ({reason}); expected a readable folder: open it up")
            )
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            stack.append((Path(entry.path), _sorted_entries(Path(entry.path))))
        elif _is_image(entry):
            yield Found(Path(entry.path))


def _sorted_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what a folder holds, hidden names aside, by name, in windows of the next smallest names."""
    last = ""
    while True:
        with os.scandir(folder) as entries:
            left = (entry for entry in entries if entry.name > last and not entry.name.startswith("."))
            window = nsmallest(WINDOW, left, key=lambda entry: entry.name)
        yield from window
        if len(window) < WINDOW:
            return
        last = window[-1].name


def _is_image(entry: os.DirEntry[str]) -> bool:
    from cifarnet.preprocessing import EXTENSIONS

    try:
        return entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
    except OSError:  # a link in a circle, for one: reading it will say what is wrong
        return True
