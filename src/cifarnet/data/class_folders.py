"""Image folders with one subfolder per class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, compress
from pathlib import Path

import numpy as np

from cifarnet.arguments import expanded
from cifarnet.contract import IMAGE_SHAPE, Shape, fault_of_labels
from cifarnet.dataset import BrokenFile, Dataset, Progress, Reading, Split, SplitBy, durable, silent
from cifarnet.errors import DataError, listed, shell_word
from cifarnet.preprocessing import SYSTEM_ADVICE, SYSTEM_ERRORS

from .class_files import (
    ClassFiles,
    Layout,
    composed,
    find_class_files,
    find_layout,
    folder_names,
    require_images,
    require_no_broken_links,
    unlabeled_images,
)
from .decoding import decode
from .splits import LEAST_PER_CLASS, chosen_for_test

BROKEN_LINK = "a link that leads nowhere"
"""Reason for a broken link in ``BrokenFile``."""


@dataclass(frozen=True)
class ReadImages:
    """Images of class folders, in the order of the folders, with hashes and the files that were not read."""

    split: Split
    contents: list[bytes]
    """SHA-256 of each file."""
    digests: list[bytes]
    """SHA-256 of the pixels of each image."""
    reading: Reading
    counts: list[int]
    """Number of images of each folder."""


def read_class_folders(
    path: Path,
    seed: int,
    split_by: SplitBy,
    progress: Progress,
    shape: Shape = IMAGE_SHAPE,
    *,
    skip_broken: bool = False,
    use_validation_folder: bool = True,
) -> Dataset:
    """Read a folder with one subfolder per class, or with ``train`` and ``test`` that each have such subfolders.

    The arguments are as in ``load_dataset``; images are uint8 (n, *shape). Hidden files, files without an image
    extension, links to folders, and anything else beside ``train`` and ``test`` are ignored. Raises DataError.
    """
    layout = find_layout(path, use_validation_folder=use_validation_folder)
    least = 1 if layout.is_split else LEAST_PER_CLASS
    read = read_files(path, layout, progress, shape, least=least, skip_broken=skip_broken)
    if layout.is_split:
        return _as_given(path, layout, read)
    is_test = chosen_for_test(read.split, read.contents, read.digests, layout.labels, seed, split_by)
    train, test = (
        Split(read.split.images[part], read.split.labels[part], tuple(compress(read.split.files, part)))
        for part in (~is_test, is_test)
    )
    dataset = Dataset(path.resolve().name, train, test, layout.labels)
    return dataset.opened_by(
        durable(path), split_by=split_by, split_seed=seed, image_size=shape[0], reading=read.reading
    )


def _as_given(path: Path, layout: Layout, read: ReadImages) -> Dataset:
    """Return the dataset with the splits of the folder, the validation images last in the training split."""
    classes = len(layout.labels)
    first = sum(read.counts[:-classes])
    train, test = (
        Split(read.split.images[rows], read.split.labels[rows], read.split.files[rows])
        for rows in (slice(first), slice(first, None))
    )
    held_out = sum(read.counts[classes:-classes]) or None
    dataset = Dataset(path.resolve().name, train, test, layout.labels)
    return dataset.opened_by(
        durable(path), image_size=read.split.images.shape[1], validation_images=held_out, reading=read.reading
    )


def open_labeled_images(
    path: str | Path,
    labels: Sequence[str],
    progress: Progress | None = None,
    shape: Shape = IMAGE_SHAPE,
    *,
    skip_broken: bool = False,
) -> Dataset:
    """Open all images of a folder with one subfolder per class, to evaluate a model with the classes ``labels``.

    They are resized to ``shape``, and all in the test split. Unlike with ``load_dataset``, a class may have an empty
    subfolder or none, or a single image. Raises DataError for subfolders that are not classes of the model, if there is
    no image at all, and if something cannot be read.
    """
    path = expanded(path)
    try:
        return _labeled_images(path, labels, progress or silent, shape, skip_broken=skip_broken)
    except OSError as error:
        raise system_fault(path, error) from error


def _labeled_images(
    path: Path, labels: Sequence[str], progress: Progress, shape: Shape, *, skip_broken: bool
) -> Dataset:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one with a subfolder of images per class: check the path")
    names = folder_names(path)
    named = {composed(name): name for name in names}
    known = [composed(label) for label in labels]
    if unknown := [name for key, name in named.items() if key not in known]:
        raise DataError(
            f"{path} has the class folders {', '.join(unknown)}; expected some of {', '.join(labels)}: rename or "
            "remove them"
        )
    if len(named) < len(names):
        raise DataError(f"{path} has {fault_of_labels(names)}")
    found = tuple(
        find_class_files(path / named[key]) if key in named else ClassFiles(folder=path / key) for key in known
    )
    if not any(files.images for files in found):
        raise DataError(f"{path} has no images in class folders; expected {path / labels[0]} and the like: add some")
    layout = Layout(labels=tuple(labels), parts=("",), files=found, unlabeled=unlabeled_images(path))
    read = read_files(path, layout, progress, shape, skip_broken=skip_broken)
    no_images = Split(read.split.images[:0], read.split.labels[:0])
    dataset = Dataset(path.resolve().name, no_images, read.split, tuple(labels))
    return dataset.opened_by(durable(path), image_size=shape[0], reading=read.reading)


def read_files(
    folder: Path,
    layout: Layout,
    progress: Progress,
    shape: Shape = IMAGE_SHAPE,
    *,
    least: int = 0,
    skip_broken: bool,
) -> ReadImages:
    """Read the files of all classes and splits of ``folder``.

    Images are uint8 (n, *shape), RGB, 0-255. Raises ``DataError`` for a folder with fewer than ``least`` images and,
    unless ``skip_broken``, for files that cannot be read.
    """
    classes = layout.files
    for files in classes:
        if not skip_broken:
            require_no_broken_links(files)
        require_images(files, least)
    paths = [path for files in classes for path in files.images]
    decoded = decode(folder, paths, progress, shape)
    if decoded.broken and not skip_broken:
        raise _unreadable(folder, {str(paths[index]): why for index, why in decoded.broken.items()}, len(paths))
    names = tuple(str(path.relative_to(folder)) for path in paths)
    broken = {index: BrokenFile(names[index], why) for index, why in decoded.broken.items()}
    is_whole = np.array([index not in broken for index in range(len(paths))], np.bool_)
    places = np.repeat(np.arange(len(classes)), [len(files.images) for files in classes])[is_whole]
    images = decoded.images[is_whole] if broken else decoded.images
    digests = [sha256(image.tobytes()).digest() for image in images]
    links = (str(link.relative_to(folder)) for files in classes for link in files.broken_links)
    return ReadImages(
        Split(images, (places % len(layout.labels)).astype(np.int32), tuple(compress(names, is_whole))),
        list(compress(decoded.contents, is_whole)),
        digests,
        Reading(
            broken=(*broken.values(), *(BrokenFile(link, BROKEN_LINK) for link in links)),
            others=dict(Counter(path.suffix.lower() for path in chain(*(files.others for files in classes)))),
            linked_folders=sum(len(files.linked_folders) for files in classes),
            unlabeled=len(layout.unlabeled),
            copies=len(digests) - len(set(digests)),
        ),
        np.bincount(places, minlength=len(classes)).tolist(),
    )


def system_fault(source: str | Path, error: OSError) -> DataError:
    """Return the error for a file or folder that the system does not let us read."""
    advice = SYSTEM_ADVICE if error.errno in SYSTEM_ERRORS else "check permissions"
    return DataError(f"{error.filename or source} cannot be read ({error.strerror}): {advice}")


def _unreadable(folder: Path, broken: dict[str, str], images: int) -> DataError:
    shown = listed(f"{path} ({why})" for path, why in broken.items())
    return DataError(
        f"{len(broken)} of {images} images could not be read: {shown}: remove or replace them, or leave them out with "
        f"--skip-broken{pointer(folder)}"
    )


def pointer(folder: Path) -> str:
    """Return the end of the error for unreadable images, which says what lists them all."""
    return f"; `cifarnet data check {shell_word(str(folder))}` lists all"
