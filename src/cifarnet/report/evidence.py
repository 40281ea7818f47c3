"""What a run folder holds for a report: the record, the history, and what was measured of the exported file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cifarnet.contract import FILE_ENGINE, PARITY_SUFFIX, ROBUSTNESS, Fraction
from cifarnet.errors import RunError
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import Calibration, RunRecord
from cifarnet.run.state import best_epoch_of
from cifarnet.run.typed_json import read
from cifarnet.runtime import read_model

from .commands import export_command, run_words

T = TypeVar("T")


@dataclass(frozen=True)
class Absent:
    """A part of the report that there is nothing for."""

    why: str
    """One sentence."""
    command: str
    """What to run to get it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the file with the trained model."""

    name: str
    images: int
    probability_difference: float
    changed_classes: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What the gate measured when the model file was written."""

    sha256: str
    precision: str
    backend: str
    images: int
    trained_accuracy: Fraction
    accuracy: Fraction
    checks: tuple[Check, ...]
    """The first one is of the whole test set."""
    flip: bool
    """Whether the file takes the mean of an image and its mirror image."""
    bars: dict[str, Any]
    """What the file had to hold; empty where it does not tell."""

    @property
    def margin(self) -> float:
        """How far apart an image's two best probabilities have to be for a changed class to count, 0 to 1."""
        margin = self.bars.get("margin")
        return float(margin) if isinstance(margin, int | float) else 0.0


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The exported file."""

    size_bytes: int
    sha256: str
    contract: Mapping[str, Any]
    """What the file says of itself."""

    @property
    def flip(self) -> bool:
        """Return whether it takes the mean of an image and its mirror image."""
        return bool(self.contract.get("flip"))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a run folder tells."""

    name: str
    """Of the run folder."""
    words: str
    """By which a command finds the run, as a shell takes them."""
    record: RunRecord
    """Its best epoch also while the run has not ended."""
    history: tuple[EpochRecord, ...]
    model_file: ModelFile | None
    flip: bool
    """Whether what is judged takes the mean of an image and its mirror image."""
    calibration: Calibration | Absent
    """Of what is judged."""
    parity: Parity | Absent
    robustness: Robustness | Absent

    @property
    def export_flip(self) -> bool:
        """Return whether the exported file, if there is one, takes that mean, whatever is judged."""
        return self.model_file is not None and self.model_file.flip

    @property
    def started_from(self) -> str | None:
        """Return the name of the run whose convolutions this one started from, if it did."""
        return None if self.record.warm_start is None else self.record.warm_start.run


def read_evidence(run: Run, engine: str) -> Evidence:
    """Return what the folder of ``run`` tells of what is judged on ``engine``: the exported file, or the network.

    Raises ``RunError`` for a record that is none of ours, and ``ModelError`` for such a model file.
    """
    record = replace(run.record, best_epoch=best_epoch_of(run))
    words, file = run_words(run), _model_file(run.model)
    file_flips = file is not None and file.flip
    flip = file_flips and engine == FILE_ENGINE
    return Evidence(
        name=run.path.absolute().name,
        words=words,
        record=record,
        history=tuple(run.read_history()),
        model_file=file,
        flip=flip,
        calibration=_calibration_of_file(file, words) if flip and file is not None else _calibration_of(record, words),
        parity=_parity(run, file, export_command(words, flip=file_flips)),
        robustness=_robustness(run, file, record.data.test_images, f"cifarnet robustness {words}"),
    )


def _model_file(path: Path) -> ModelFile | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return ModelFile(size_bytes=len(content), sha256=sha256, contract=read_model(content)[1])


def _calibration_of(record: RunRecord, words: str) -> Calibration | Absent:
    return record.calibration or Absent("No temperature was fitted for this run.", f"cifarnet evaluate {words}")


def _calibration_of_file(file: ModelFile, words: str) -> Calibration | Absent:
    try:
        told: Calibration = read(Calibration, file.contract.get("calibration"), "calibration")
    except ValueError:
        return Absent("model.onnx does not tell how its temperature was fitted.", export_command(words, flip=file.flip))
    return told


def _parity(run: Run, file: ModelFile | None, command: str) -> Parity | Absent:
    if file is None:
        return Absent("This run is not exported yet.", command)
    return _measured(run.model.with_suffix(PARITY_SUFFIX), _read_parity, file, command, "The proof")


def _robustness(run: Run, file: ModelFile | None, test_images: int, command: str) -> Robustness | Absent:
    if file is None:
        return Absent("Corrupted images are tried on an exported model, and this run is not exported yet.", command)

    def read_robustness(found: Any, _: ModelFile) -> Robustness | Absent:
        if found["images_in_split"] != test_images:  # earlier versions kept those of any images
            return Absent(f"The measurement in {ROBUSTNESS} is of other images than the run's.", command)
        return Robustness.from_json(found)

    return _measured(run.path / ROBUSTNESS, read_robustness, file, command, "The measurement")


def _measured(path: Path, read: Callable[[Any, ModelFile], T], file: ModelFile, command: str, what: str) -> T | Absent:
    """Return what a JSON file tells of the model file, or why it tells nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["sha256"] != file.sha256:
            return Absent(f"{what} in {path.name} is of another file than model.onnx.", command)
        return read(found, file)
    except FileNotFoundError:
        return Absent(f"{what} of model.onnx is missing: there is no {path.name}.", command)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, RunError):
        return Absent(f"{what} in {path.name} is damaged.", command)


def _read_parity(found: Any, file: ModelFile) -> Parity:
    parity: Parity = read(Parity, found | {"flip": file.flip, "bars": _bars(file.contract)}, "")
    if not parity.checks:
        raise ValueError("there are no checks")
    return parity


def _bars(contract: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(contract["proof"]["bars"])
    except (KeyError, TypeError, ValueError):
        return {}
