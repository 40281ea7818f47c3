"""Whether a dataset and its validation split are those that a run began with.

A run of image files has lists of those that were read, to report later what changed, and of those that were skipped.
"""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.data import HoldOut, hold_out_of
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError, listed
from cifarnet.run.folder import Run
from cifarnet.run.origin import DataRecord
from cifarnet.run.record import RunRecord

from .seen import Digests, digests

IMAGES, BROKEN = "images.csv", "broken.csv"
"""Files in a run folder: the image files with the digests of their pixels, and the files that were skipped."""


def require_same_data(data: DataRecord, dataset: Dataset, run: Run | None = None) -> None:
    """Raise ``RunError`` unless ``dataset`` is the one in a run record; it lists the files that differ from ``run``."""
    if data.fingerprint != dataset.fingerprint:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {data.fingerprint[:12]} as when the "
            f"run began: restore {data.source or data.name}, pass its new location if it was moved (--data), or start "
            f"a new run{since_then(run, dataset)}"
        )
    if data.labels != dataset.labels:
        raise RunError(
            f"run.json has the classes {', '.join(data.labels)}; expected {', '.join(dataset.labels)}, as in its "
            "dataset: restore run.json or start a new run"
        )


def same_hold_out(record: RunRecord, dataset: Dataset, run: Run | None = None) -> HoldOut:
    """Return the validation split that the run with ``record`` began with.

    Raises ``RunError``, which lists the files that differ from ``run`` if it is given, if ``dataset`` or its validation
    split is another one: images of another validation split may have been trained on.
    """
    require_same_data(record.data, dataset, run)
    parts = hold_out_of(dataset, record.train)
    if parts.fingerprint != record.hold_out.fingerprint:
        raise RunError(
            f"seed {record.train.seed} and validation_fraction {record.train.validation_fraction} give a validation "
            f"split with the fingerprint {parts.fingerprint[:12]}; expected {record.hold_out.fingerprint[:12]} as when "
            "the run began: restore run.json or start a new run"
        )
    return parts


def write_image_lists(run: Run, dataset: Dataset, train: Digests) -> None:
    """Write the lists of a dataset that was read from image files; ``train`` are the digests of its training images."""
    if dataset.train.files:
        write_atomically(run.path / IMAGES, _csv(("file", "digest"), _digests_of(dataset, train).items()))
    if dataset.reading.broken:
        broken = ((each.name, each.reason) for each in dataset.reading.broken)
        write_atomically(run.path / BROKEN, _csv(("file", "reason"), broken))


def since_then(run: Run | None, dataset: Dataset) -> str:
    """Return which image files of ``dataset`` differ from those that ``run`` began with, or "" if it is unknown.

    The result continues a clause, such as " (since then 1 added: cat/2.png)".
    """
    was = _read(run, IMAGES)
    if not was:  # a run of an earlier version, or not of image files
        return ""
    now = _digests_of(dataset, digests(dataset.train.images))
    added, removed = now.keys() - was.keys(), was.keys() - now.keys()
    left_out, broken = _read(run, BROKEN).keys(), {each.name for each in dataset.reading.broken}
    kinds = {
        "added": added - left_out,
        f"readable now and left out then (see {run}/{BROKEN})": added & left_out,
        "removed": removed - broken,
        "no longer readable": removed & broken,
        "changed": {name for name in now.keys() & was.keys() if now[name] != was[name]},
    }
    different = "; ".join(f"{len(names)} {kind}: {listed(sorted(names))}" for kind, names in kinds.items() if names)
    return f" (since then {different})" if different else ""


def _digests_of(dataset: Dataset, train: Digests) -> dict[str, str]:
    found = np.concatenate([train, digests(dataset.test.images)])
    names = (*dataset.train.files, *dataset.test.files)
    return {name: f"{each:016x}" for name, each in zip(names, found.tolist(), strict=False)}


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read(run: Run | None, name: str) -> dict[str, str]:
    """Return the second column of a list of ``run`` by the file, empty if there is no undamaged list."""
    if run is None:
        return {}
    try:
        with (run.path / name).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return dict(list(csv.reader(file))[1:])
    except (OSError, ValueError, csv.Error):
        return {}
