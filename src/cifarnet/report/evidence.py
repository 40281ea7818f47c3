"""Read everything in a run folder that a report shows."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cifarnet.contract import FILE_ENGINE, PARITY_SUFFIX, PUBLISHED_ROBUSTNESS, ROBUSTNESS, Contract, Fraction
from cifarnet.errors import ModelError, RunError
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run.exported import StatedTolerances, calibration_in, tolerances_in
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import Calibration, RunRecord
from cifarnet.run.state import best_epoch_of
from cifarnet.run.typed_json import members, read
from cifarnet.runtime import read_model

from .commands import export_command, run_words

T = TypeVar("T")


@dataclass(frozen=True)
class Absent:
    """A missing part of the report: the reason, in a sentence, and the command that creates it."""

    why: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """The fields of a check in the parity file that a report shows."""

    name: str
    images: int
    probability_difference: float
    changed_classes: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The fields of the parity file that a report shows."""

    sha256: str
    precision: str
    backend: str
    images: int
    trained_accuracy: Fraction
    accuracy: Fraction
    checks: tuple[Check, ...]
    """Checks, that on the whole test set first."""
    views: int
    tolerances: StatedTolerances


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The exported file."""

    size_bytes: int
    sha256: str
    contract: Contract

    @property
    def views(self) -> int:
        """Views that it averages: more than 1 with test-time augmentation."""
        return self.contract.views


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Contents of a run folder."""

    name: str
    words: str
    """Shell arguments that identify the run."""
    record: RunRecord
    """Run record, with the best epoch also while training is running."""
    history: tuple[EpochRecord, ...]
    model_file: ModelFile | None
    views: int
    """Views that the evaluated model averages."""
    calibration: Calibration | Absent
    parity: Parity | Absent
    robustness: Robustness | Absent

    @property
    def export_views(self) -> int:
        """Views that the exported file averages; 1 if there is none."""
        return self.model_file.views if self.model_file else 1


def read_evidence(run: Run, engine: str) -> Evidence:
    """Return the contents of the folder of ``run``, evaluated on ``engine``. Raises ``RunError`` and ``ModelError``."""
    record = replace(run.record, best_epoch=best_epoch_of(run))
    words, file = run_words(run), _model_file(run.model)
    file_views = file.views if file else 1
    views = file_views if engine == FILE_ENGINE else 1
    return Evidence(
        name=run.path.absolute().name,
        words=words,
        record=record,
        history=tuple(run.read_history()),
        model_file=file,
        views=views,
        calibration=_calibration(record, file if views > 1 else None, words),
        parity=_parity(run, file, export_command(words, file_views)),
        robustness=_robustness(run, file, record.data.test_images, f"cifarnet robustness {words}"),
    )


def _model_file(path: Path) -> ModelFile | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return ModelFile(size_bytes=len(content), sha256=sha256, contract=read_model(content)[1])


def _calibration(record: RunRecord, tta_file: ModelFile | None, words: str) -> Calibration | Absent:
    """Return the calibration of the run, or that of a file with test-time augmentation."""
    if tta_file is None:
        return record.calibration or Absent("No temperature was fitted for this run.", f"cifarnet evaluate {words}")
    try:
        stored = calibration_in(tta_file.contract, "model.onnx")
    except ModelError:
        stored = None
    return stored or Absent("model.onnx does not contain its calibration.", export_command(words, tta_file.views))


def _parity(run: Run, file: ModelFile | None, command: str) -> Parity | Absent:
    if file is None:
        return Absent("This run is not exported yet.", command)

    def parse(found: Any) -> Parity:
        tolerances = members(tolerances_in(file.contract))
        parity: Parity = read(Parity, found | {"views": file.views, "tolerances": tolerances}, "")
        if not parity.checks:
            raise ValueError("there are no checks")
        return parity

    return _measured(run.model.with_suffix(PARITY_SUFFIX), parse, file, command, "The parity check")


def _robustness(run: Run, file: ModelFile | None, test_images: int, command: str) -> Robustness | Absent:
    if file is None:
        return Absent("Robustness is measured on an exported model, and this run is not exported yet.", command)

    def parse(found: Any) -> Robustness | Absent:
        if found["images_in_split"] != test_images:  # earlier versions stored results on any images
            return Absent(f"The measurement in {ROBUSTNESS} is of other images than the run's.", command)
        return Robustness.from_json(found)

    measured = (
        _measured(run.path / name, parse, file, command, "The measurement")
        for name in (PUBLISHED_ROBUSTNESS, ROBUSTNESS)  # of both, published images are the comparable ones
    )
    published, drawn = measured
    return drawn if isinstance(published, Absent) else published


def _measured(path: Path, parse: Callable[[Any], T], file: ModelFile, command: str, what: str) -> T | Absent:
    """Return the parsed JSON file about the model file, or why there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["sha256"] != file.sha256:
            return Absent(f"{what} in {path.name} is of another file than model.onnx.", command)
        return parse(found)
    except FileNotFoundError:
        return Absent(f"{what} of model.onnx is missing: there is no {path.name}.", command)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, RunError):
        return Absent(f"{what} in {path.name} is damaged.", command)
