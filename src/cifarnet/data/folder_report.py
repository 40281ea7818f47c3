"""Report on a folder of images in class folders without training: its images and its faults."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.config import TrainConfig
from cifarnet.dataset import BrokenFile, Progress, Split, silent
from cifarnet.errors import DataError, counted, shell_word
from cifarnet.preprocessing import Header, read_header

from .class_files import Layout, find_layout
from .class_folders import ReadImages, pointer, read_class_folders, read_files
from .image_facts import are_flat, average_hashes, groups, is_unequal
from .splits import TEST_FRACTION, hold_out, hold_out_of

_SIXTEEN_BITS = "I;16"
"""Prefix of Pillow's 16-bit modes."""


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """The state of a folder of images in class folders. Files are named by their path in the folder."""

    folder: str
    classes: dict[str, dict[str, int]]
    """Number of readable images of each class, by split; the split is "all" in a folder without splits."""
    images: int
    sizes: dict[str, tuple[int, int]] | None
    """Width and height as stored of the image with the fewest, the median and the most pixels; None without images."""
    broken: tuple[BrokenFile, ...]
    """Files that cannot be read, and links that lead nowhere."""
    others: dict[str, int]
    """Number of files that are not read, by extension."""
    linked_folders: tuple[str, ...]
    """Links to folders, which are not followed."""
    unlabeled: tuple[str, ...]
    """Images beside the class folders, which have no class and are not read."""
    copies: tuple[tuple[str, ...], ...]
    """Groups of images with the same pixels."""
    copies_across_classes: int
    """Number of those groups with images of several classes."""
    near_copies: tuple[tuple[str, ...], ...]
    """Groups of images with the same 8x8 average hash but different pixels."""
    crossing: int
    """Number of test images with the pixels of a training image; without splits, in a random split."""
    flat: tuple[str, ...]
    """Images of nearly one color."""
    narrow: tuple[str, ...]
    """Those of them that have 16 bits per pixel, of which only the high byte is used."""
    unequal: bool
    """Whether the largest class is more than three times the size of the smallest one."""
    fault: str | None
    """Why ``cifarnet train`` would refuse the folder, or None."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Checked:
    """The report on a folder, and its readable images with their class names."""

    report: FolderReport
    split: Split
    labels: tuple[str, ...]


def check_folder(path: Path, progress: Progress = silent, *, skip_broken: bool = False) -> Checked:
    """Read a folder as ``load_dataset`` does, and report on it instead of raising an error for the first fault.

    With ``skip_broken``, files that cannot be read are not a fault. Raises ``DataError`` for a folder without class
    folders.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one with a folder of images per class: check the path")
    layout = find_layout(path)
    read = read_files(path, layout, progress, skip_broken=True)
    names = read.split.files
    headers = [read_header(path / name) for name in names]
    flat = np.flatnonzero(are_flat(read.split.images)).tolist()
    copies = groups(read.digests, range(len(names)))
    classes = _classes(layout, read)
    crossing = _crossing(layout, read)
    report = FolderReport(
        folder=str(path),
        classes=classes,
        images=len(names),
        sizes=_sizes(headers),
        broken=read.reading.broken,
        others=dict(read.reading.others),
        linked_folders=tuple(str(link.relative_to(path)) for link in chain(*(f.linked_folders for f in layout.files))),
        unlabeled=tuple(str(file.relative_to(path)) for file in layout.unlabeled),
        copies=_named(copies, names),
        copies_across_classes=sum(len(set(read.split.labels[group].tolist())) > 1 for group in copies),
        near_copies=_named(_near_copies(read, set(flat)), names),
        crossing=crossing,
        flat=tuple(names[index] for index in flat),
        narrow=tuple(names[index] for index in flat if headers[index].mode.startswith(_SIXTEEN_BITS)),
        unequal=is_unequal([sum(parts.values()) for parts in classes.values()]),
        fault=_fault(path, crossing if layout.is_split else 0, skip_broken=skip_broken),
    )
    return Checked(report, read.split, layout.labels)


def _classes(layout: Layout, read: ReadImages) -> dict[str, dict[str, int]]:
    counts = iter(read.counts)
    by_part = [(part or "all", label, next(counts)) for part in layout.parts for label in layout.labels]
    return {label: {part: count for part, of, count in by_part if of == label} for label in layout.labels}


def _sizes(headers: Sequence[Header]) -> dict[str, tuple[int, int]] | None:
    if not headers:
        return None
    ordered = sorted((header.width * header.height, header.width, header.height) for header in headers)
    places = {"smallest": 0, "median": len(ordered) // 2, "largest": -1}
    return {name: ordered[place][1:] for name, place in places.items()}


def _named(found: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[index] for index in group) for group in found)


def _near_copies(read: ReadImages, flat: set[int]) -> list[list[int]]:
    """Return groups of images with the same hash, without flat images and with one of each group of copies."""
    first = {digest: index for index, digest in reversed([*enumerate(read.digests)])}
    kept = sorted(set(first.values()) - flat)
    return groups(average_hashes(read.split.images[kept]), kept)


def _crossing(layout: Layout, read: ReadImages) -> int:
    """Return how many test images have the pixels of a training image, in a random split if no split is given."""
    is_test = np.arange(len(read.split)) >= sum(read.counts[: -len(layout.labels)])
    if not layout.is_split:
        if min(Counter(read.split.labels.tolist()).get(label, 0) for label in range(len(layout.labels))) < 2:
            return 0
        chosen = hold_out(read.split, TEST_FRACTION, TrainConfig.seed, len(layout.labels)).validation
        is_test = np.isin(np.arange(len(read.split)), chosen)
    trained = {digest for digest, held_out in zip(read.digests, is_test, strict=True) if not held_out}
    return sum(digest in trained for digest, held_out in zip(read.digests, is_test, strict=True) if held_out)


def _fault(path: Path, crossing: int, *, skip_broken: bool) -> str | None:
    """Return why a training would be refused, or None. The images are read from the cache."""
    try:
        dataset = read_class_folders(path, TrainConfig.seed, "content", silent, skip_broken=skip_broken)
        hold_out_of(dataset, TrainConfig())
    except DataError as error:  # which may point to this check
        train = f": `cifarnet train --data {shell_word(str(path))} --skip-broken`"
        return str(error).replace(pointer(path), train)
    if crossing:
        copies = counted(crossing, "test image has", "test images have")
        return f"{copies} the pixels of training images; expected none: remove them or their copies"
    return None
