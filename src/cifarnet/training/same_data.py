"""Whether a dataset and its validation split are those that a run began with."""

from cifarnet.data import HoldOut, hold_out_of
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError
from cifarnet.run.folder import Run
from cifarnet.run.origin import DataRecord
from cifarnet.run.record import RunRecord

from .image_list import since_then


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
            f"run.json has the classes {', '.join(data.labels)}; expected {', '.join(dataset.labels)}, as in its data "
            "set: restore run.json or start a new run"
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
