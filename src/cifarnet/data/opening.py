"""One door to every kind of data: CIFAR-10 by name, drawn patterns, an official archive, a person's own images."""

from collections.abc import Sequence
from pathlib import Path

from cifarnet.contract import Dataset, Split, SplitBy, durable
from cifarnet.errors import DataError

from .cache import cache_state, open_cache
from .fetching import fetch
from .official import holds_release, read_release
from .progress import Progress, silent
from .release import CIFAR10
from .synthetic import synthetic

_ACCEPTED = (
    "`cifar10`, `synthetic`, the official CIFAR-10 archive (.tar.gz) or its unpacked folder, or a folder with one "
    "subfolder of images per class"
)
_SHOWN = 3
"""Entries of a folder in an error message."""


def open_dataset(
    source: str | Path = "cifar10",
    *,
    seed: int = 0,
    split_by: SplitBy = "content",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open CIFAR-10 (fetched when it is not in the cache), synthetic data, or what lies under a path.

    A path is an official CIFAR-10 archive or folder, binary or Python, or a folder of class folders, with or without
    ``train`` and ``test`` above them. The two names win over paths; write ``./cifar10`` for a folder of that name.
    ``seed`` draws the synthetic images and the test split of a folder without one: about a fifth of the images, each
    chosen by its own bytes, so that it stays where it is when others come or go. ``split_by="position"`` opens a folder
    as earlier versions did. Raises DataError (or FetchError, IntegrityError) that says what was found and what is
    accepted, and ConfigError for a seed below 0.
    """
    if source == "cifar10":
        return _open_cifar10(cache, progress).opened_by(source)
    if source == "synthetic":
        return synthetic(seed=seed).opened_by(source, split_seed=seed)
    try:
        return _open_path(Path(source).expanduser(), seed, split_by, progress or silent)
    except OSError as error:
        raise DataError(f"{error.filename or source} cannot be read ({error.strerror}): check permissions") from error


def open_labelled_images(path: str | Path, labels: Sequence[str], progress: Progress | None = None) -> Split:
    """Open every image of a folder with one subfolder per class, to be scored by a model that knows ``labels``.

    Unlike ``open_dataset`` it sets nothing aside and allows classes without images, one image alone too. Raises
    DataError for subfolders that are no class of the model, and where there is no image at all.
    """
    from .folder import read_labelled_images

    try:
        return read_labelled_images(Path(path).expanduser(), labels, progress or silent)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror}): check permissions") from error


def _open_cifar10(cache: Path | None, progress: Progress | None) -> Dataset:
    if not cache_state(cache).present:
        fetch(cache, progress)
    return open_cache(cache)


def _open_path(path: Path, seed: int, split_by: SplitBy, progress: Progress) -> Dataset:
    if holds_release(path, CIFAR10):
        return read_release(path, CIFAR10).opened_by(durable(path))
    if not path.is_dir() or not _has_subfolder(path):
        raise DataError(f"{path} is {_description(path)}; expected {_ACCEPTED}")
    # imported here: whoever trains on CIFAR-10 needs no Pillow
    from .folder import read_class_folders

    return read_class_folders(path, seed, split_by, progress)


def _has_subfolder(path: Path) -> bool:
    return any(entry.is_dir() for entry in path.iterdir())


def _description(path: Path) -> str:
    if path.is_file():
        return "a file of another kind"
    if not path.is_dir():
        return "no such file or folder"
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "an empty folder"
    more = ", …" if len(names) > _SHOWN else ""
    return f"a folder without subfolders ({', '.join(names[:_SHOWN])}{more})"
