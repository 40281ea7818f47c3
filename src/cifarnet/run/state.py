"""Whether a run has its best weights, may be resumed, and is what a model file was exported from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifarnet.contract import EPOCH_ATTRIBUTE
from cifarnet.errors import RunError, reason, shell_word
from cifarnet.training.early_stopping import EarlyStopping

from .folder import Run


def best_epoch_of(run: Run) -> int | None:
    """Return the epoch, from 1, of the best weights of ``run``, or None before there is one.

    Its record tells; while training goes on, or after a crash, the weights themselves; where an earlier version wrote
    those, the history. Raises ``RunError`` for a damaged record or history.
    """
    record = run.read_record()
    if record.why_stopped is not None:
        return record.best_epoch
    if (told := _epoch_in(run.best_weights)) is not None:
        return told
    stopping = EarlyStopping(min_delta=record.train.min_delta, patience=record.train.patience)
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
    from cifarnet.runtime import read_model  # onnxruntime: whoever only trains need not have it

    contract, record = read_model(run.model)[1], run.read_record()
    theirs = _contract_facts(contract)
    best = {"best_epoch": best_epoch_of(run)} if "best_epoch" in theirs else {}
    ours = _exported_facts(record.to_json() | best)
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
        theirs, ours = _contract_facts(contract), _exported_facts(run.read_record().to_json())
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
    if "data.fingerprint" in facts:  # of a run from scratch too: it is not the same as one with a warm start
        facts.setdefault("warm_start.weights_sha256", None)
    return facts


def require_weights(run: Run) -> None:
    """Raise ``RunError``, which says what to do, unless ``run`` has best weights, and those that its training left.

    Only a finished run of this version tells which those are.
    """
    record = run.read_record()
    if run.best_weights.is_file():
        recorded = record.weights_sha256
        if recorded is not None and (found := weights_digest(run)) != recorded:
            raise RunError(
                f"{run.best_weights} has the SHA-256 {found[:12]}…; expected {recorded[:12]}… as when its "
                "training ended: restore it or start a new run"
            )
        return
    if record.why_stopped == "nan":
        raise RunError(
            f"{run} has no best weights, since its loss was no number before an epoch was done; expected a run with a "
            "finite loss: start a new one with a lower --learning-rate"
        )
    if record.status == "finished":
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
    if record.status == "finished":
        raise RunError(
            f"{run} came to its end ({record.why_stopped}, epoch {record.epochs}); "
            "expected a run that was interrupted: start a new one without --resume"
        )
