"""The image files of a run: which they were, to say what changed, and which could not be read."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.dataset import Dataset
from cifarnet.run.folder import Run

from .seen import Digests, digests

IMAGES, BROKEN = "images.csv", "broken.csv"
"""Files in a run folder: the image files with the digests of their pixels, and the files that were left out."""
_SHOWN = 3
"""Maximum number of files in an error message."""


def write_image_lists(run: Run, dataset: Dataset, train: Digests) -> None:
    """Write the lists of a dataset that was read from image files; ``train`` are the digests of its training images."""
    if dataset.train.files:
        rows = _digests_of(dataset, train).items()
        write_atomically(run.path / IMAGES, _csv(("file", "digest"), ((name, f"{each:016x}") for name, each in rows)))
    if dataset.reading.broken:
        broken = ((each.name, each.reason) for each in dataset.reading.broken)
        write_atomically(run.path / BROKEN, _csv(("file", "reason"), broken))


def differences(run: Run, dataset: Dataset) -> str:
    """Return which image files of ``dataset`` differ from those that ``run`` began with, or "" if it is unknown."""
    try:
        was = _read(run.path / IMAGES)
    except (OSError, ValueError):  # a run of an earlier version, or not of image files
        return ""
    now = _digests_of(dataset, digests(dataset.train.images))
    kinds = {
        "added": now.keys() - was.keys(),
        "removed": was.keys() - now.keys(),
        "changed": {name for name in now.keys() & was.keys() if now[name] != was[name]},
    }
    return "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names)


def _digests_of(dataset: Dataset, train: Digests) -> dict[str, int]:
    found = np.concatenate([train, digests(dataset.test.images)])
    return dict(zip((*dataset.train.files, *dataset.test.files), found.tolist(), strict=False))


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_SHOWN]) + ", …" * (len(ordered) > _SHOWN)


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {name: int(digest, 16) for name, digest in list(csv.reader(file))[1:]}
