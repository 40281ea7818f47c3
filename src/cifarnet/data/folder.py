"""A person's own images: one folder per class."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import Dataset, Split, SplitBy, durable
from cifarnet.errors import ConfigError, DataError
from cifarnet.preprocessing import EXTENSIONS

from .images import read_images
from .progress import Progress, silent
from .split import hold_out

TEST_FRACTION = 0.2
"""Share of the images that becomes the test split when the folder has none of its own."""

_HASH_THREADS = 4
"""Files that are hashed at once; hashlib releases the interpreter lock."""

_LEAST_PER_CLASS = 3
"""One to train on, one to validate on, one to test on."""

_PART_NAMES = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing"))
"""Names that people give to the parts of a data set: with class folders inside they are no classes."""


def read_class_folders(path: Path, seed: int, split_by: SplitBy, progress: Progress) -> Dataset:
    """Read a folder with one subfolder per class, or with ``train`` and ``test`` that each have such subfolders.

    Classes are the names of the subfolders in sorted order, images are uint8 (n, 32, 32, 3). Without ``train`` and
    ``test``, about a fifth of the images, chosen by ``split_by`` and ``seed``, is the test split. Hidden files, files
    without an image extension, links to folders and what lies beside ``train`` and ``test`` are left out. Raises
    DataError, and ConfigError for a seed below 0.
    """
    if (path / "train").is_dir() and (path / "test").is_dir():
        return _read_divided(path, progress).opened_by(durable(path))
    labels = _class_names(path)
    paths = [_image_paths(path / label, _LEAST_PER_CLASS) for label in labels]
    split = _read_paths(paths, progress)
    if split_by == "content":
        is_test = _chosen_by_content(dict(zip(labels, paths, strict=True)), seed)
    else:
        is_test = np.isin(np.arange(len(split)), hold_out(split, TEST_FRACTION, seed, len(labels)).validation)
    train, test = (Split(split.images[part], split.labels[part]) for part in (~is_test, is_test))
    dataset = Dataset(path.resolve().name, train, test, labels)
    return dataset.opened_by(durable(path), split_by=split_by, split_seed=seed)


def read_labelled_images(path: Path, labels: Sequence[str], progress: Progress = silent) -> Split:
    """Read every image of a folder with one subfolder per class, to be scored by a model that knows ``labels``.

    A class without a subfolder, or with an empty one, has no images. Images are uint8 (n, 32, 32, 3). Raises DataError
    for subfolders that are no class of the model, and where there is no image at all.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder; expected one with a subfolder of images per class: check the path")
    names = {entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."}
    if unknown := sorted(names - set(labels)):
        raise DataError(
            f"{path} has the class folders {', '.join(unknown)}; expected some of {', '.join(labels)}: rename or "
            "remove them"
        )
    paths = [_image_paths(path / label, 0) if label in names else [] for label in labels]
    if not any(paths):
        raise DataError(f"{path} has no images in class folders; expected {path / labels[0]} and the like: add some")
    return _read_paths(paths, progress)


def _read_divided(path: Path, progress: Progress) -> Dataset:
    labels = _class_names(path / "train")
    _check_same(labels, _class_names(path / "test"), path)
    return Dataset(
        name=path.resolve().name,
        train=_read_split(path / "train", labels, 1, progress),
        test=_read_split(path / "test", labels, 1, progress),
        labels=labels,
    )


def _chosen_by_content(paths: Mapping[str, Sequence[Path]], seed: int) -> NDArray[np.bool_]:
    """Choose the test images of each class by the bytes of their files and the seed: bool (n,).

    So adding or removing files moves no other image, and copies of a file stay together. The exception is a class so
    small that one side would be empty: its lowest rank is then a test image, and its two highest are not.
    """
    if seed < 0:
        raise ConfigError(f"the seed of the test split is {seed}; expected a whole number ≥ 0: give another")
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        ranks = {name: np.array(list(pool.map(partial(_rank, seed=seed), files))) for name, files in paths.items()}
    return np.concatenate([of_class <= _limit(of_class, name) for name, of_class in ranks.items()])


def _rank(path: Path, seed: int) -> float:
    """Return a number from 0 to 1, evenly distributed, that the bytes of the file and the seed decide alone.

    Not its pixels: what a lossy picture decodes to differs between versions of Pillow.
    """
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").digest()
    return int.from_bytes(hashlib.sha256(b"%d:" % seed + content).digest()[:8], "big") / 2**64


def _limit(ranks: NDArray[np.float64], name: str) -> float:
    """Return the highest rank of a test image, by which a class has at least one of them and two others."""
    different = np.unique(ranks)
    if len(different) < _LEAST_PER_CLASS:
        raise DataError(
            f"class {name} has {len(different)} different image(s) among its {len(ranks)} files; expected at "
            f"least {_LEAST_PER_CLASS}: add images that are no copies or remove the folder"
        )
    return float(np.clip(TEST_FRACTION, different[0], different[-_LEAST_PER_CLASS]))


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if len(names) < 2:
        found = f"the class folder {names[0]}" if names else "no class folder"
        raise DataError(f"{path} has {found}; expected at least 2: put the images of each class in a folder of its own")
    if parts := [name for name in names if name.lower() in _PART_NAMES and _holds_folders_alone(path / name)]:
        raise DataError(
            f"{path} has {', '.join(parts)} as class folders, with folders alone inside; expected classes: call the "
            f"parts train and test, both of them, or pass one part, {path / parts[0]}"
        )
    return names


def _holds_folders_alone(path: Path) -> bool:
    return all(entry.is_dir() for entry in path.iterdir() if entry.name[0] != ".")


def _check_same(train: Sequence[str], test: Sequence[str], path: Path) -> None:
    if different := sorted(set(train) ^ set(test)):
        places = [f"{name} (only in {'train' if name in train else 'test'})" for name in different]
        raise DataError(f"{path} has class folders in one part alone: {', '.join(places)}: add or remove them")


def _read_split(path: Path, labels: Sequence[str], least: int, progress: Progress) -> Split:
    return _read_paths([_image_paths(path / label, least) for label in labels], progress)


def _read_paths(paths: Sequence[Sequence[Path]], progress: Progress) -> Split:
    """Read the files of each class, in the order of the classes."""
    images = read_images([image for of_class in paths for image in of_class], progress)
    counts = [len(of_class) for of_class in paths]
    return Split(images, np.repeat(np.arange(len(paths), dtype=np.int32), counts))


def _image_paths(folder: Path, least: int) -> list[Path]:
    """Find the images of a class at any depth, in an order that is the same everywhere."""
    files = [Path(place) / name for place, _, names in os.walk(folder, onerror=_refuse) for name in names]
    images = [file for file in files if _is_image(file.relative_to(folder)) and file.is_file()]
    if len(images) < least:
        raise DataError(
            f"class folder {folder} has {len(images)} image(s) and {len(files) - len(images)} other file(s); expected "
            f"at least {least} ({' '.join(EXTENSIONS)}): add images or remove the folder"
        )
    return sorted(images, key=lambda image: image.relative_to(folder).parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be listed, which os.walk would pass over in silence."""
    raise error
