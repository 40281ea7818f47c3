"""Facts in the contract of a model file about the run that it was exported from, and the check that it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.contract import Contract
from cifarnet.dataset import NAMED_SOURCES
from cifarnet.errors import DataError, ModelError, RunError, shell_word

from .custom import CustomRecord, in_effect
from .folder import Run
from .origin import DataRecord
from .record import Calibration
from .state import best_epoch_of
from .typed_json import read

UNKNOWN = DataRecord(
    source=None,
    name="unknown",
    fingerprint="",
    split_by="content",
    split_seed=0,
    train_images=0,
    test_images=0,
    labels=(),
)
"""Dataset of a file of ``export_model``, which does not name its training data."""
PLAIN = ("best_epoch", "recipe", "backend", "seed", "weights_sha256")
"""Members of ``run.json`` that are compared as they are."""
NESTED = {
    "model": None,
    "train": None,
    "data": "fingerprint",
    "hold_out": "fingerprint",
    "warm_start": "weights_sha256",
}
"""Objects in ``run.json`` that are compared, with the one member that is, or None for all members."""


@dataclass(frozen=True, kw_only=True)
class StatedTolerances:
    """Tolerances of the parity check in a model file; None for those that it was not checked against."""

    probability: float | None = None
    """Maximum absolute difference of a probability."""
    margin: float | None = None
    """Top-2 margin above which the predicted class must match, 0 to 1."""
    accuracy_drop: float | None = None
    """Maximum loss of accuracy, as a fraction of the test set."""


def config_in(contract: Contract) -> ModelConfig | None:
    """Return the configuration of a network of ``build_model``, or None for another. Raises ``ConfigError``."""
    settings = contract.document["model"]
    return ModelConfig.from_json(settings) if settings else None


def calibration_in(contract: Contract, name: str) -> Calibration | None:
    """Return the calibration in the file ``name``, or None if it has none. Raises ``ModelError`` if it is damaged."""
    stored = contract.document.get("calibration")
    try:
        return None if stored is None else read(Calibration, stored, "calibration")
    except ValueError as error:
        raise ModelError(
            f"{name} has a damaged contract ({error}); expected one as `cifarnet export` writes it: export it again"
        ) from error


def origin_in(contract: Contract, name: str) -> DataRecord:
    """Return the dataset that the model in the file ``name`` was trained on. Raises ``DataError`` if it is missing."""
    if "training" not in contract.document:
        return UNKNOWN
    try:
        trained = contract.document["training"]
        trained_on = trained["data"]["name"]
        source = trained_on if trained_on in NAMED_SOURCES else None
        unknown = {"source": source, "labels": list(contract.labels), "train_images": 0, "test_images": 0}
        data: DataRecord = read(DataRecord, unknown | trained["data"], "data")
        return data.resolved(read(int, trained["train"]["seed"], "seed"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name} does not name its training data; expected that in its contract: export it again"
        ) from error


def tolerances_in(contract: Contract) -> StatedTolerances:
    """Return the tolerances of the parity check that the file passed. Raises ``ValueError`` if they are damaged."""
    proof = read(dict[str, Any], contract.document.get("proof", {}), "proof")
    tolerances: StatedTolerances = read(StatedTolerances, proof.get("bars", {}), "bars")
    return tolerances


def training_in(contract: Contract) -> Any:
    """Return how the model was trained, as JSON, without settings that an optimizer or a loss replaced."""
    training: Any = contract.document.get("training")
    try:
        custom = read(CustomRecord, training["custom"], "custom")
        reported = {name: value for name, value in training.items() if name != "custom"}
        return reported | {"train": in_effect(training["train"], custom)}
    except (KeyError, TypeError, ValueError, AttributeError):  # no such replacement, or damaged
        return training


def require_own_export(run: Run) -> None:
    """Raise ``RunError`` unless the model file of ``run`` is an export of its best weights.

    Facts that a file or a record of an earlier version lacks are not compared.
    """
    from cifarnet.runtime import read_model  # onnxruntime, which training does not need

    contract = read_model(run.model)[1]
    if not isinstance(contract.document.get("training"), dict):
        raise RunError(
            f"{run.model} is not the export of a run: it does not name its training; expected that of this run: move "
            f"it and export with `cifarnet export {shell_word(str(run))} --onnx`"
        )
    theirs = _facts_of(contract)
    best = {"best_epoch": best_epoch_of(run)} if "best_epoch" in theirs else {}
    ours = _facts(run.record.to_json() | best)
    for name, value in theirs.items():
        if name in ours and value != ours[name]:
            tta = f" --tta {contract.views}" if contract.views > 1 else ""
            raise RunError(
                f"{run.model} is not the export of this run's best weights: its {name} is {value!s:.12}; expected "
                f"{ours[name]!s:.12}: export it again with `cifarnet export {shell_word(str(run))} --onnx{tta}`"
            )


def run_beside(file: Path, contract: Contract) -> Run | None:
    """Return the run in whose folder a model ``file`` is, if it is an export of that run, at any epoch."""
    run = Run(file.resolve().parent)
    try:
        theirs, ours = _facts_of(contract), _facts(run.record.to_json())
    except RunError:  # no run folder
        return None
    both = (theirs.keys() & ours.keys()) - {"best_epoch", "weights_sha256"}
    return run if "data.fingerprint" in both and all(theirs[name] == ours[name] for name in both) else None


def _facts_of(contract: Contract) -> dict[str, object]:
    training = contract.document.get("training")
    return _facts({"model": contract.document["model"]} | (training if isinstance(training, dict) else {}))


def _facts(document: Mapping[str, Any]) -> dict[str, object]:
    """Return the members of ``run.json``, or of a contract's training, by which a run and a file are compared."""
    facts: dict[str, object] = {name: document[name] for name in PLAIN if name in document}
    for name, only in NESTED.items():
        found = document.get(name)
        if isinstance(found, Mapping):
            facts |= {f"{name}.{key}": value for key, value in found.items() if only in (None, key)}
    if "data.fingerprint" in facts:  # also what JSON omits, to tell a run without it from one with it
        omitted = {f"train.{name}": getattr(TrainConfig, name) for name in TrainConfig.SPARSE}
        facts = omitted | {"warm_start.weights_sha256": None, "custom": document.get("custom")} | facts
    return facts
