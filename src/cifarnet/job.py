"""What is to be trained, and how to read it back from the record of a run."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from .atomic import reason
from .config import ModelConfig, TrainConfig
from .contract import EPOCH_ATTRIBUTE, NAMED_SOURCES, Dataset, SplitBy, durable, shell_word
from .errors import ConfigError, DataError, RunError
from .run_folder import Run
from .training.early_stopping import EarlyStopping

if TYPE_CHECKING:
    from .data import Progress

RECORD_FORMAT = 1
"""Version of the layout of ``run.json``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained."""

    recipe: str
    """Name of the recipe that the settings started from."""
    model: ModelConfig
    train: TrainConfig
    source: str | None = None
    """Source of a data set that does not tell its own, or None for that of the data set."""

    def __post_init__(self) -> None:
        if self.train.optimizer == "muon" and not self.model.ghost_batch:
            raise ConfigError(
                "optimizer is 'muon', ghost_batch 0; expected a network with batch normalisation, since muon sets the "
                "scale of convolutions aside: take another optimizer or a recipe that has it"
            )


def source_of(job: Job, dataset: Dataset) -> str | None:
    """Return where ``dataset`` is from, or None where nobody tells. Raises ``ConfigError`` where ``job`` differs."""
    if job.source is None or dataset.source is None:
        return dataset.source or job.source
    if durable(job.source) != dataset.source:
        raise ConfigError(
            f"the job's source is {job.source}, the data set was opened from {dataset.source}; expected one place: "
            "leave the job's source out"
        )
    return dataset.source


def data_record(job: Job, dataset: Dataset) -> dict[str, Any]:
    """Return what a run's record tells of its images. Raises ``ConfigError`` as ``source_of``."""
    return {
        "source": source_of(job, dataset),
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split_by": dataset.split_by,
        "split_seed": dataset.split_seed,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "labels": list(dataset.labels),
    }


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The images that a classifier was trained on."""

    source: str | None
    """What ``open_dataset`` takes, or None where that is not known here."""
    name: str
    fingerprint: str
    split_by: SplitBy
    """Rule that draws the test part of a folder without one."""
    split_seed: int
    """Seed that draws it, or the synthetic images."""

    @classmethod
    def read(cls, trained: Mapping[str, Any], source: str | None) -> "Origin":
        """Return what a run's record, or that part of a model file's contract, tells.

        Raises ``KeyError``, ``TypeError`` and ``ValueError`` where it does not tell.
        """
        data = trained["data"]
        # Earlier versions wrote down no rule: they divided by position, and by the seed of the training.
        split_by: Any = (data["split_by"] or "content") if "split_by" in data else "position"
        drawn_by = data.get("split_seed")
        seed = trained["train"]["seed"] if drawn_by is None else drawn_by
        known = split_by in get_args(SplitBy) and isinstance(data["name"], str) and isinstance(data["fingerprint"], str)
        if not known or type(seed) is not int or seed < 0:
            raise ValueError(f"data is {data}, seed {seed!r}")
        return cls(
            source=source, name=data["name"], fingerprint=data["fingerprint"], split_by=split_by, split_seed=seed
        )

    def open_dataset(self, place: str | None = None, progress: "Progress | None" = None) -> Dataset:
        """Open the images, now in ``place`` if given, and divide them as they were divided for the training.

        Raises ``DataError`` where their place is not known, or nothing lies there.
        """
        from .data import open_dataset  # numpy, which the command line's help has no time for

        source = place or self.source
        if source is None or not (place or source in NAMED_SOURCES or os.path.lexists(source)):
            fault = "is not known here" if source is None else "was not found"
            raise DataError(
                f"the model was trained on {source or self.name}, which {fault}; expected --data with its place"
            )
        return open_dataset(source, seed=self.split_seed, split_by=self.split_by, progress=progress)


def origin_of(run: Run) -> Origin:
    """Return the images that ``run`` was trained on. Raises ``RunError`` when its record does not tell."""
    record = run.read_record()
    source = job_of(record).source
    try:
        return Origin.read(record, source)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(error) from error


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
        raise damaged(error) from error


def damaged(error: Exception) -> RunError:
    """Return what to raise for a record that lacks a fact, or has one of another kind."""
    return RunError(f"run.json is damaged ({error!r}); expected the record of a run: start a new one")


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


def require_own_export(run: Run) -> None:
    """Raise ``RunError`` unless the model file of ``run`` has its best weights, so far as both tell.

    What the file or the record of an earlier version does not tell is not compared.
    """
    from .runtime import read_model  # onnxruntime: whoever only trains need not have it

    contract, record = read_model(run.model)[1], run.read_record()
    theirs = _contract_facts(contract)
    ours = _exported_facts(record | ({"best_epoch": best_epoch_of(run)} if "best_epoch" in theirs else {}))
    for name, value in theirs.items():
        if name in ours and value != ours[name]:
            flip = " --tta" if contract.get("flip") else ""
            raise RunError(
                f"{run.model} is not the export of this run's best weights: its {name} is {value!s:.12}; expected "
                f"{ours[name]!s:.12}: export it anew with `cifarnet export {shell_word(str(run))} --onnx{flip}`"
            )


def run_beside(file: Path, contract: Mapping[str, Any]) -> Run | None:
    """Return the run in whose folder a model ``file`` lies, if it is an export of that run, of whatever epoch."""
    run = Run(file.resolve().parent)
    try:
        theirs, ours = _contract_facts(contract), _exported_facts(run.read_record())
    except RunError:  # no run folder
        return None
    both = (theirs.keys() & ours.keys()) - {"best_epoch"}
    return run if "data.fingerprint" in both and all(theirs[name] == ours[name] for name in both) else None


def _contract_facts(contract: Mapping[str, Any]) -> dict[str, Any]:
    training = contract.get("training")
    return _exported_facts({"model": contract.get("model")} | (training if isinstance(training, dict) else {}))


def _exported_facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells one training and its weights from another, each fact by its name."""
    plain = ("best_epoch", "recipe", "backend", "seed")
    facts = {name: document[name] for name in plain if name in document}
    nested = {"model": None, "train": None, "data": "fingerprint", "hold_out": "fingerprint"}
    for name, only in (nested | {"warm_start": "weights_sha256"}).items():
        found = document.get(name)
        if isinstance(found, Mapping):
            facts |= {f"{name}.{key}": value for key, value in found.items() if only in (None, key)}
    return facts


def require_weights(run: Run) -> None:
    """Raise ``RunError``, which says what to do, unless ``run`` has best weights, and those that its training left.

    Only a finished run of this version tells which those are.
    """
    record = run.read_record()
    if run.best_weights.is_file():
        recorded = record.get("weights_sha256")
        if recorded is not None and (found := weights_digest(run)) != recorded:
            raise RunError(
                f"{run.best_weights} has the SHA-256 {found[:12]}…; expected {str(recorded)[:12]}… as when its "
                "training ended: restore it or start a new run"
            )
        return
    if record.get("why_stopped") == "nan":
        raise RunError(
            f"{run} has no best weights, since its loss was no number before an epoch was done; expected a run with a "
            "finite loss: start a new one with a lower --learning-rate"
        )
    if record.get("status") == "finished":
        raise RunError(f"{run} has lost its best weights; expected {run.best_weights}: restore it or start a new run")
    raise RunError(
        f"{run} has no best weights yet; expected at least one finished epoch: go on with "
        f"`cifarnet train --resume {shell_word(str(run))}`"
    )


def weights_digest(run: Run) -> str:
    """Return the SHA-256 (hex) of the file with the best weights of ``run``. Raises ``RunError``."""
    try:
        return hashlib.sha256(run.best_weights.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{run.best_weights} could not be read ({reason(error)}): check its permissions") from error


def require_resumable(run: Run) -> None:
    """Raise ``RunError`` when there is nothing to resume, since the run came to its end."""
    record = run.read_record()
    if record.get("status") == "finished":
        raise RunError(
            f"{run} came to its end ({record.get('why_stopped')}, epoch {record.get('epochs')}); "
            "expected a run that was interrupted: start a new one without --resume"
        )
