"""Whether a run can be resumed, and the epoch of its best weights."""

from collections.abc import Sequence
from pathlib import Path

from cifarnet.contract import EPOCH_ATTRIBUTE
from cifarnet.errors import RunError
from cifarnet.training.early_stopping import EarlyStopping

from .folder import HISTORY, EpochRecord, Run
from .record import RunRecord


def best_epoch_of(run: Run) -> int | None:
    """Return the epoch of the best weights of ``run``, counted from 1, or None before there is one.

    Read from the record; while training or after a crash, from the weights file; for older runs, derived from the
    history. Raises ``RunError`` for a damaged record or history, and if the two contradict each other.
    """
    record = run.record
    if record.why_stopped is not None:
        _require_history(run, record)
        return record.best_epoch
    if (epoch := _epoch_in(run.best_weights)) is not None:
        return epoch
    return _best_in(run.read_history(), record)


def _require_history(run: Run, record: RunRecord) -> None:
    """Raise ``RunError`` unless the results of an ended training are those of its history, if that can be read."""
    try:
        history = run.read_history()
    except RunError:  # damaged, which those who show it report
        history = []
    if not history:
        return
    best, validation = _best_in(history, record), record.metrics.validation
    facts: dict[str, tuple[object, object]]
    facts = {"epochs": (record.epochs, len(history)), "best_epoch": (record.best_epoch, best)}
    if best and validation:
        row = history[best - 1]
        facts["validation.loss"] = validation.loss, row.validation_loss
        facts["validation.accuracy"] = validation.accuracy, row.validation_accuracy
    for name, (found, expected) in facts.items():
        if found != expected:
            raise RunError(
                f"run.json of {run} has {name} {found}; expected {expected}, as {HISTORY} says: restore the file that "
                "was changed, or start a new run"
            )


def _best_in(history: Sequence[EpochRecord], record: RunRecord) -> int | None:
    train, is_relative = record.train, record.custom.loss is not None
    stopping = EarlyStopping(train.min_delta, train.patience, is_relative=is_relative)
    for row in history:
        stopping.update(row.epoch, row.comparable_loss)
    return stopping.best_epoch or None


def _epoch_in(weights: Path) -> int | None:
    import h5py  # imported here: reading a finished run does not need it

    try:
        with h5py.File(weights) as file:
            epoch = file.attrs.get(EPOCH_ATTRIBUTE)
            return int(epoch) if epoch is not None and epoch > 0 else None
    except (OSError, ValueError, TypeError, RuntimeError):  # missing or damaged, which loading it reports
        return None


def require_resumable(run: Run) -> None:
    """Raise ``RunError`` if the run has finished."""
    record = run.record
    if record.status == "finished":
        raise RunError(
            f"{run} has finished after epoch {record.epochs}: {record.ending}; expected a run that was "
            "interrupted: start a new one"
        )
