"""Whether a dataset and its validation split are those that a run began with."""

from cifarnet.data import HoldOut, hold_out_of
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError
from cifarnet.run.folder import Run
from cifarnet.run.record import DataRecord, RunRecord

from .image_list import since_then


def require_same_data(data: DataRecord, dataset: Dataset, run: Run | None = None) -> None:
    """Raise ``RunError`` unless ``dataset`` is the one in a run record, with the files that differ from ``run``."""
    if data.fingerprint != dataset.fingerprint:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {data.fingerprint[:12]} as when the "
            f"run began: restore {data.source or data.name}, pass it from its new place if it moved (--data), or "
            f"start a new run{since_then(run, dataset)}"
        )
    if data.labels != dataset.labels:
        raise RunError(
            f"run.json has the classes {', '.join(data.labels)}; expected {', '.join(dataset.labels)}, as in its data "
            "set: restore run.json or start a new run"
        )


def same_hold_out(record: RunRecord, dataset: Dataset, run: Run | None = None) -> HoldOut:
    """Return the validation split that a run began with. ``run``, if given, knows which files differ.

    Raises ``RunError`` if ``dataset`` or its division is not that of the record: images of another validation split may
    have been trained on.
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
