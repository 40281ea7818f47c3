"""Lists of a run's image files: those that were read, to report later what changed, and those that were skipped."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.dataset import Dataset
from cifarnet.errors import listed
from cifarnet.run.folder import Run

from .seen import Digests, digests

IMAGES, BROKEN = "images.csv", "broken.csv"
"""Files in a run folder: the image files with the digests of their pixels, and the files that were skipped."""


def write_image_lists(run: Run, dataset: Dataset, train: Digests) -> None:
    """Write the lists of a dataset that was read from image files; ``train`` are the digests of its training images."""
    if dataset.train.files:
        rows = _digests_of(dataset, train).items()
        write_atomically(run.path / IMAGES, _csv(("file", "digest"), ((name, f"{each:016x}") for name, each in rows)))
    if dataset.reading.broken:
        broken = ((each.name, each.reason) for each in dataset.reading.broken)
        write_atomically(run.path / BROKEN, _csv(("file", "reason"), broken))


def differences(run: Run | None, dataset: Dataset) -> str:
    """Return which image files of ``dataset`` differ from those of ``run``, as the end of a message; "" if unknown."""
    if run is None:
        return ""
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
    found = "; ".join(f"{len(names)} {kind}: {listed(sorted(names))}" for kind, names in kinds.items() if names)
    return f" (since then {found})" if found else ""


def _digests_of(dataset: Dataset, train: Digests) -> dict[str, int]:
    found = np.concatenate([train, digests(dataset.test.images)])
    return dict(zip((*dataset.train.files, *dataset.test.files), found.tolist(), strict=False))


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {name: int(digest, 16) for name, digest in list(csv.reader(file))[1:]}
