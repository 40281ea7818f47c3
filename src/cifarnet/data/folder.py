"""Image folders with one subfolder per class."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE, Shape
from cifarnet.dataset import Dataset, Progress, Split, SplitBy, durable, silent
from cifarnet.errors import DataError
from cifarnet.preprocessing import EXTENSIONS, bombs_refused, is_hidden, read_pixels

from .test_split import LEAST_PER_CLASS, chosen_for_test

_THREADS = 4
"""Threads that decode, which releases the interpreter lock. More would only use more memory."""
_PART_WORDS = frozenset(("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"))
"""Words in common names of dataset splits, such as ``Train`` and ``test_set``, all of whose "classes" are folders."""
_WORD = re.compile("[a-z]+")
_SHOWN = 5
"""Maximum number of paths in an error message."""


def read_class_folders(
    path: Path, seed: int, split_by: SplitBy, progress: Progress, shape: Shape = IMAGE_SHAPE
) -> Dataset:
    """Read a folder with one subfolder per class, or with ``train`` and ``test`` that each have such subfolders.

    The classes are the sorted names of the subfolders; images are uint8 (n, *shape). Without ``train`` and ``test``,
    ``split_by`` and ``seed`` choose about a fifth of the images as the test split. Hidden files, files without an image
    extension, links to folders, and anything beside ``train`` and ``test`` are ignored. Raises DataError.
    """
    if (path / "train").is_dir() and (path / "test").is_dir():
        return _read_train_and_test(path, progress, shape).opened_by(durable(path), image_size=shape[0])
    labels = _class_names(path)
    paths = [_image_paths(path / label, LEAST_PER_CLASS) for label in labels]
    split = _read_paths(path, paths, progress, shape)
    is_test = chosen_for_test(split, dict(zip(labels, paths, strict=True)), seed, split_by)
    train, test = (
        Split(split.images[part], split.labels[part], tuple(compress(split.files, part)))
        for part in (~is_test, is_test)
    )
    dataset = Dataset(path.resolve().name, train, test, labels)
    return dataset.opened_by(durable(path), split_by=split_by, split_seed=seed, image_size=shape[0])


def read_labeled_images(
    path: Path, labels: Sequence[str], progress: Progress = silent, shape: Shape = IMAGE_SHAPE
) -> Split:
    """Read all images of a folder with one subfolder per class, to evaluate a model with the classes ``labels``.

    A class may have an empty subfolder or none. Images are uint8 (n, *shape). Raises DataError for subfolders that
    are not classes of the model, and if there is no image at all.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one with a subfolder of images per class: check the path")
    names = {entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name)}
    if unknown := sorted(names - set(labels)):
        raise DataError(
            f"{path} has the class folders {', '.join(unknown)}; expected some of {', '.join(labels)}: rename or "
            "remove them"
        )
    paths = [_image_paths(path / label, 0) if label in names else [] for label in labels]
    if not any(paths):
        raise DataError(f"{path} has no images in class folders; expected {path / labels[0]} and the like: add some")
    return _read_paths(path, paths, progress, shape)


def read_images(paths: Sequence[Path], progress: Progress = silent, shape: Shape = IMAGE_SHAPE) -> NDArray[np.uint8]:
    """Decode image files with a few threads.

    Returns uint8 (n, *shape), in the order of the paths. Raises one DataError for all files that cannot be read.
    """
    images = np.empty((len(paths), *shape), np.uint8)
    failures = []
    for index, decoded in enumerate(_decoded(paths, progress, shape)):
        if isinstance(decoded, str):
            failures.append(f"{paths[index]} ({decoded})")
        else:
            images[index] = decoded
    if failures:
        more = ", …" if len(failures) > _SHOWN else ""
        raise DataError(
            f"{len(failures)} of {len(paths)} images could not be read: {', '.join(failures[:_SHOWN])}{more}: remove "
            "or replace them"
        )
    return images


def _read_train_and_test(path: Path, progress: Progress, shape: Shape) -> Dataset:
    labels = _class_names(path / "train")
    _check_same(labels, _class_names(path / "test"), path)
    train, test = (
        _read_paths(path, [_image_paths(path / part / label, 1) for label in labels], progress, shape)
        for part in ("train", "test")
    )
    return Dataset(name=path.resolve().name, train=train, test=test, labels=labels)


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name)))
    if len(names) < 2:
        folders = f"the class folder {names[0]}" if names else "no class folder"
        raise DataError(
            f"{path} has {folders}; expected at least 2: put the images of each class in a folder of its own"
        )
    if parts := _part_names(path, names):
        raise DataError(
            f"{path} has {', '.join(parts)} as class folders, which hold only folders; expected classes: name the "
            f"splits train and test, and have both, or pass one of them, {path / parts[0]}"
        )
    return names


def _part_names(path: Path, names: Sequence[str]) -> list[str]:
    """Return the folders that are splits and not classes: one called like a split, or several with such a word."""
    words = {name: {word.removesuffix("set") for word in _WORD.findall(name.lower())} for name in names}
    found = [name for name in names if words[name] & _PART_WORDS and _holds_only_folders(path / name)]
    return found if len(found) > 1 or any(words[name] - {""} <= _PART_WORDS for name in found) else []


def _holds_only_folders(path: Path) -> bool:
    """Return whether there are folders in ``path`` and no images: a list of labels may lie beside them."""
    entries = [entry for entry in path.iterdir() if not is_hidden(entry.name)]
    return any(entry.is_dir() for entry in entries) and not any(_is_image(Path(entry.name)) for entry in entries)


def _check_same(train: Sequence[str], test: Sequence[str], path: Path) -> None:
    if different := sorted(set(train) ^ set(test)):
        places = [f"{name} (only in {'train' if name in train else 'test'})" for name in different]
        raise DataError(f"{path} has class folders in only one split: {', '.join(places)}: add or remove them")


def _read_paths(folder: Path, paths: Sequence[Sequence[Path]], progress: Progress, shape: Shape) -> Split:
    """Read the files of each class, in the order of the classes."""
    files = [image for of_class in paths for image in of_class]
    counts = [len(of_class) for of_class in paths]
    return Split(
        images=read_images(files, progress, shape),
        labels=np.repeat(np.arange(len(paths), dtype=np.int32), counts),
        files=tuple(str(file.relative_to(folder)) for file in files),
    )


def _image_paths(folder: Path, least: int) -> list[Path]:
    """Return the images of a class at any depth, in an order that is the same on every system."""
    walked = list(os.walk(folder, onerror=_refuse))
    files = [Path(place) / name for place, _, names in walked for name in names]
    images = [file for file in files if _is_image(file.relative_to(folder)) and (file.is_file() or not file.exists())]
    if broken := [str(image) for image in images if not image.exists()]:
        more = ", …" if len(broken) > _SHOWN else ""
        raise DataError(
            f"{len(broken)} of {len(images)} images in {folder} are broken links: "
            f"{', '.join(broken[:_SHOWN])}{more}; expected their files: fetch those or remove the links"
        )
    if len(images) < least:
        links = sum(Path(place, name).is_symlink() for place, names, _ in walked for name in names)
        linked = f" and {links} linked folder(s), which are not followed" if links else ""
        raise DataError(
            f"class folder {folder} has {len(images)} image(s) and {len(files) - len(images)} other file(s){linked}; "
            f"expected at least {least} ({' '.join(EXTENSIONS)}): add images or remove the folder"
        )
    return sorted(images, key=lambda image: image.relative_to(folder).parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not any(map(is_hidden, path.parts))


def _refuse(error: OSError) -> None:
    """Raise for a folder that cannot be listed, which os.walk would silently skip."""
    raise error


def _decoded(paths: Sequence[Path], progress: Progress, shape: Shape) -> Iterator[NDArray[np.uint8] | str]:
    """Yield the pixels of each file, or the reason why it cannot be read."""
    sizes_bytes = [path.stat().st_size for path in paths]
    done_bytes, total_bytes = 0, sum(sizes_bytes)
    with bombs_refused(), ThreadPoolExecutor(_THREADS) as pool:
        pixels = pool.map(partial(_pixels_or_reason, shape=shape), paths)
        for decoded, size_bytes in zip(pixels, sizes_bytes, strict=True):
            yield decoded
            done_bytes += size_bytes
            progress("decoding", done_bytes, total_bytes)


def _pixels_or_reason(path: Path, shape: Shape) -> NDArray[np.uint8] | str:
    try:
        return read_pixels(path, shape)
    except DataError as error:
        return str(error)
