"""What is to be trained, and how to read it back from the record of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import ModelConfig, TrainConfig
from .errors import ConfigError, RunError
from .run import Run
from .spec import EPOCH_ATTRIBUTE
from .stopping import EarlyStopping

RECORD_FORMAT = 1
"""Version of the layout of ``run.json``."""
NAMED_SOURCES = frozenset(("cifar10", "synthetic"))
"""Data sets that everybody can open by their name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained."""

    recipe: str
    """Name of the recipe that the settings started from."""
    model: ModelConfig
    train: TrainConfig
    source: str
    """What ``open_dataset`` is given."""

    def __post_init__(self) -> None:
        if self.train.optimizer == "muon" and not self.model.ghost_batch:
            raise ConfigError(
                "optimizer is 'muon', ghost_batch 0; expected a network with batch normalisation, since muon sets the "
                "scale of convolutions aside: take another optimizer or a recipe that has it"
            )


def job_of(record: dict[str, Any]) -> Job:
    """Return the job that a run's record tells of. Raises ``RunError`` when the record is not one of ours."""
    try:
        if record["format"] != RECORD_FORMAT:
            raise RunError(
                f"the run's format is {record['format']!r}; expected {RECORD_FORMAT}: use the cifarnet that wrote it"
            )
        model, train_config = ModelConfig.from_json(record["model"]), TrainConfig.from_json(record["train"])
        return Job(recipe=record["recipe"], model=model, train=train_config, source=record["data"]["source"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"run.json is damaged ({error!r}); expected the record of a run: start a new one") from error


def best_epoch_of(run: Run) -> int | None:
    """Return the epoch, from 1, of the best weights of ``run``, or nothing before there is one.

    Its record tells; while training goes on, or after a crash, the weights themselves; where an earlier version wrote
    those, the history. Raises ``RunError`` for a damaged record or history, and ``ConfigError`` for settings outside
    their range.
    """
    record = run.read_record()
    if "best_epoch" in record:
        recorded = record["best_epoch"]
        if recorded is None or (type(recorded) is int and recorded > 0):
            return recorded
        raise RunError(
            f"run.json has the best epoch {recorded!r}; expected a whole number from 1, or null: start a new run"
        )
    if (told := _epoch_in(run.best_weights)) is not None:
        return told
    train = job_of(record).train
    stopping = EarlyStopping(min_delta=train.min_delta, patience=train.patience)
    for row in run.read_history():
        stopping.update(row.epoch, row.comparable_loss)
    return stopping.best_epoch or None


def _epoch_in(weights: Path) -> int | None:
    import h5py  # imported here: whoever reads a finished run need not have it

    try:
        with h5py.File(weights) as file:
            epoch = file.attrs.get(EPOCH_ATTRIBUTE)
            return int(epoch) if epoch is not None and epoch > 0 else None
    except (OSError, ValueError, TypeError, RuntimeError):  # not there yet, or damaged, as loading it will say
        return None


def require_weights(run: Run) -> None:
    """Raise ``RunError``, which says how to come by some, when ``run`` has no best weights."""
    if run.best_weights.is_file():
        return
    record = run.read_record()
    if record.get("why_stopped") == "nan":
        raise RunError(
            f"{run} has no best weights, since its loss was no number before an epoch was done; expected a run with a "
            "finite loss: start a new one with a lower --learning-rate"
        )
    if record.get("status") == "finished":
        raise RunError(f"{run} has lost its best weights; expected {run.best_weights}: restore it or start a new run")
    raise RunError(
        f"{run} has no best weights yet; expected at least one finished epoch: go on with "
        f"`cifarnet train --resume {run}`"
    )


def require_resumable(run: Run) -> None:
    """Raise ``RunError`` when there is nothing to resume, since the run came to its end."""
    record = run.read_record()
    if record.get("status") == "finished":
        raise RunError(
            f"{run} came to its end ({record.get('why_stopped')}, epoch {record.get('epochs')}); "
            "expected a run that was interrupted: start a new one without --resume"
        )
