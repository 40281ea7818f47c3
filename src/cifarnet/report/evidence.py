"""What a run folder holds for a report: the record, the history, and what was measured of the exported file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cifarnet.contract import FILE_ENGINE, PARITY_SUFFIX, ROBUSTNESS, Coverage
from cifarnet.errors import DataError, RunError
from cifarnet.evaluation.calibration import Calibration, temperature_of
from cifarnet.job import Job, best_epoch_of, job_of
from cifarnet.run_folder import EpochRecord, Run
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
    trained_accuracy: float
    accuracy: float
    checks: tuple[Check, ...]
    """The first one is of the whole test set."""
    flip: bool
    """Whether the file takes the mean of an image and its mirror image."""
    bars: Mapping[str, Any]
    """What the file had to hold; empty where it does not tell."""

    @property
    def margin(self) -> float:
        """How far apart an image's two best probabilities have to be for a changed class to count, 0 to 1."""
        margin = self.bars.get("margin")
        return float(margin) if isinstance(margin, int | float) else 0.0


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of corruptions, and the accuracy at each severity, 0 to 1."""

    name: str
    accuracies: tuple[float, ...]

    @property
    def mean_error(self) -> float:
        """Mean share of wrong answers, 0 to 1."""
        return 1 - sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """How the model file holds up when its images are corrupted."""

    images: int
    clean_accuracy: float
    mean_corruption_error: float
    worst: tuple[str, ...]
    families: tuple[Family, ...]
    drawing: str
    """What is to be known of how the corruptions are drawn; empty where it is not told."""


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
    record: Mapping[str, Any]
    job: Job
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
        found = self.record.get("warm_start")
        return None if found is None else str(found["run"])


def read_evidence(run: Run, engine: str) -> Evidence:
    """Return what the folder of ``run`` tells of what is judged on ``engine``: the exported file, or the network.

    Raises ``RunError`` for a record that is none of ours, and ``ModelError`` for such a model file.
    """
    record = run.read_record() | {"best_epoch": best_epoch_of(run)}
    job = job_of(record)
    _require_whole(run, record)
    words, file = run_words(run), _model_file(run.model)
    file_flips = file is not None and file.flip
    flip = file_flips and engine == FILE_ENGINE
    return Evidence(
        name=run.path.absolute().name,
        words=words,
        record=record,
        job=job,
        history=tuple(run.read_history()),
        model_file=file,
        flip=flip,
        calibration=_calibration_of_file(file, words)
        if flip and file is not None
        else _calibration_of_run(record, words),
        parity=_parity(run, file, export_command(words, flip=file_flips)),
        robustness=_robustness(run, file, record["data"]["test_images"], f"cifarnet robustness {words}"),
    )


def _require_whole(run: Run, record: Mapping[str, Any]) -> None:
    """Raise ``RunError`` unless every fact is there that a run writes down when it starts."""
    try:
        data = record["data"]
        _ = (
            str.lower(data["fingerprint"]),
            data["name"],
            data["train_images"],
            data["test_images"],
            record["hold_out"]["train"],
            record["backend"],
        )
        _ = str(record.get("warm_start", {"run": ""})["run"])
        _ = dict(record["versions"]), dict(record["machine"]), record["started"], record["hold_out"]["validation"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run} has a damaged run.json ({error!r}); expected the record of a run: start a new one"
        ) from error


def _model_file(path: Path) -> ModelFile | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return ModelFile(size_bytes=len(content), sha256=sha256, contract=read_model(content)[1])


def _calibration_of_run(record: Mapping[str, Any], words: str) -> Calibration | Absent:
    way_out = f"cifarnet evaluate {words}"
    if "calibration" not in record:
        return Absent("No temperature was fitted for this run.", way_out)
    damaged = Absent("The calibration in run.json is damaged: take it out, and it is fitted anew.", way_out)
    return _calibration(record["calibration"]) or damaged


def _calibration_of_file(file: ModelFile, words: str) -> Calibration | Absent:
    untold = Absent("model.onnx does not tell how its temperature was fitted.", export_command(words, flip=file.flip))
    return _calibration(file.contract.get("calibration")) or untold


def _calibration(found: Any) -> Calibration | None:
    """Return what was fitted on held-out images, or nothing where that is damaged."""
    try:
        temperature_of(found)
        names = ("temperature", "images", "ece_before", "ece_after", "loss_before", "loss_after")
        abstention = None if found["abstention"] is None else _coverage(found["abstention"])
        coverage = tuple(map(_coverage, found["coverage"]))
        return Calibration(**{name: found[name] for name in names}, coverage=coverage, abstention=abstention)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError):
        return None


def _coverage(found: Mapping[str, Any]) -> Coverage:
    return Coverage(**{name: _fraction(value) for name, value in found.items()})


def _fraction(value: Any) -> float:
    """Return a fraction. Raises ``ValueError`` for a number outside 0 to 1 and for one that is none."""
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"a fraction is {number}")
    return number


def _parity(run: Run, file: ModelFile | None, command: str) -> Parity | Absent:
    if file is None:
        return Absent("This run is not exported yet.", command)
    return _measured(run.model.with_suffix(PARITY_SUFFIX), _read_parity, file, command, "The proof")


def _robustness(run: Run, file: ModelFile | None, test_images: int, command: str) -> Robustness | Absent:
    if file is None:
        return Absent("Corrupted images are tried on an exported model, and this run is not exported yet.", command)

    def read(found: Any, _: ModelFile) -> Robustness | Absent:
        if found["images_in_split"] != test_images:  # earlier versions kept those of any images
            return Absent(f"The measurement in {ROBUSTNESS} is of other images than the run's.", command)
        return _read_robustness(found)

    return _measured(run.path / ROBUSTNESS, read, file, command, "The measurement")


def _measured(path: Path, read: Callable[[Any, ModelFile], T], file: ModelFile, command: str, what: str) -> T | Absent:
    """Return what a JSON file tells of the model file, or why it tells nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["sha256"] != file.sha256:
            return Absent(f"{what} in {path.name} is of another file than model.onnx.", command)
        return read(found, file)
    except FileNotFoundError:
        return Absent(f"{what} of model.onnx is missing: there is no {path.name}.", command)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, ArithmeticError):
        return Absent(f"{what} in {path.name} is damaged.", command)


def _read_parity(found: Any, file: ModelFile) -> Parity:
    if not found["checks"]:
        raise ValueError("no checks")
    return Parity(
        sha256=found["sha256"],
        precision=str(found["precision"]),
        backend=str(found["backend"]),
        images=int(found["images"]),
        trained_accuracy=_fraction(found["trained_accuracy"]),
        accuracy=_fraction(found["accuracy"]),
        checks=tuple(
            Check(
                name=str(each["name"]),
                images=int(each["images"]),
                probability_difference=float(each["probability_difference"]),
                changed_classes=int(each["changed_classes"]),
            )
            for each in found["checks"]
        ),
        flip=file.flip,
        bars=_bars(file.contract),
    )


def _bars(contract: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return dict(contract["proof"]["bars"])
    except (KeyError, TypeError, ValueError):
        return {}


def _read_robustness(found: Any) -> Robustness:
    families = tuple(
        Family(name=str(name), accuracies=tuple(_fraction(each["accuracy"]) for each in family["severities"]))
        for name, family in found["families"].items()
    )
    if not families or len({len(family.accuracies) for family in families}) != 1 or not families[0].accuracies:
        raise ValueError(families)
    return Robustness(
        images=int(found["images"]),
        clean_accuracy=_fraction(found["clean"]["accuracy"]),
        mean_corruption_error=_fraction(found["mean_corruption_error"]),
        worst=tuple(map(str, found["worst"])),
        families=families,
        drawing=str(found.get("drawing", "")),
    )
