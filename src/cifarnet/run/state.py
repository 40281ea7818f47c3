"""Whether a run can be resumed, the epoch of its best weights, and whether a model file was exported from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifarnet.config import TrainConfig
from cifarnet.contract import EPOCH_ATTRIBUTE, views_of
from cifarnet.errors import RunError, shell_word
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


def require_own_export(run: Run) -> None:
    """Raise ``RunError`` unless the model file of ``run`` is an export of its best weights.

    Facts that a file or a record of an earlier version lacks are not compared.
    """
    from cifarnet.runtime import read_model  # onnxruntime, which training does not need

    contract, record = read_model(run.model)[1], run.record
    if not isinstance(contract.get("training"), dict):
        raise RunError(
            f"{run.model} is not the export of a run: it does not name its training; expected that of this run: move "
            f"it and export with `cifarnet export {shell_word(str(run))} --onnx`"
        )
    theirs = _contract_facts(contract)
    best = {"best_epoch": best_epoch_of(run)} if "best_epoch" in theirs else {}
    ours = _exported_facts(record.to_json() | best)
    for name, value in theirs.items():
        if name in ours and value != ours[name]:
            tta = f" --tta {views}" if (views := views_of(contract)) > 1 else ""
            raise RunError(
                f"{run.model} is not the export of this run's best weights: its {name} is {value!s:.12}; expected "
                f"{ours[name]!s:.12}: export it again with `cifarnet export {shell_word(str(run))} --onnx{tta}`"
            )


def run_beside(file: Path, contract: Mapping[str, Any]) -> Run | None:
    """Return the run in whose folder a model ``file`` is, if it is an export of that run, at any epoch."""
    run = Run(file.resolve().parent)
    try:
        theirs, ours = _contract_facts(contract), _exported_facts(run.record.to_json())
    except RunError:  # no run folder
        return None
    both = (theirs.keys() & ours.keys()) - {"best_epoch", "weights_sha256"}
    return run if "data.fingerprint" in both and all(theirs[name] == ours[name] for name in both) else None


def _contract_facts(contract: Mapping[str, Any]) -> dict[str, Any]:
    training = contract.get("training")
    return _exported_facts({"model": contract.get("model")} | (training if isinstance(training, dict) else {}))


def _exported_facts(document: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("best_epoch", "recipe", "backend", "seed", "weights_sha256")
    facts = {name: document[name] for name in plain if name in document}
    nested = {"model": None, "train": None, "data": "fingerprint", "hold_out": "fingerprint"}
    for name, only in (nested | {"warm_start": "weights_sha256"}).items():
        found = document.get(name)
        if isinstance(found, Mapping):
            facts |= {f"{name}.{key}": value for key, value in found.items() if only in (None, key)}
    if "data.fingerprint" in facts:  # also what JSON omits, to tell a run without it from one with it
        omitted = {f"train.{name}": getattr(TrainConfig, name) for name in TrainConfig.SPARSE}
        facts = omitted | {"warm_start.weights_sha256": None, "custom": document.get("custom")} | facts
    return facts


def require_resumable(run: Run) -> None:
    """Raise ``RunError`` if the run has finished."""
    record = run.record
    if record.status == "finished":
        raise RunError(
            f"{run} has finished after epoch {record.epochs}: {record.ending}; expected a run that was "
            "interrupted: start a new one"
        )
