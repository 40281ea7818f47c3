"""The run record: ``run.json`` as a typed value, checked once when it is read."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.contract import Coverage, Fraction
from cifarnet.errors import ConfigError, RunError
from cifarnet.recipes import Recipe

from .custom import NO_CUSTOM_RECORD, CustomRecord, in_effect
from .origin import DataRecord
from .typed_json import Finite, Positive, Sparse, members, read

RECORD_FORMAT = 1
"""Version of the layout of ``run.json``."""
TEMPERATURES = (0.05, 20.0)
"""Range of temperature scaling: beyond it, probabilities are all 1 or all alike."""
TARGET_ACCURACY = 0.9
"""Target accuracy of selective prediction, 0 to 1."""
Status = Literal["running", "interrupted", "finished"]
StopReason = Literal["patience", "epochs", "interrupted", "nan", "time limit"]
STOP_REASONS: dict[StopReason, str] = {
    "patience": "the validation loss stopped improving",
    "epochs": "the last epoch is done",
    "interrupted": "interrupted",
    "nan": "the loss is NaN",
    "time limit": "the time limit is reached",
}
"""Text of each reason to stop."""


@dataclass(frozen=True, kw_only=True)
class HoldOutRecord(Sparse):
    """The validation split."""

    train: int
    """Number of images that are trained on."""
    validation: int
    fingerprint: str
    """SHA-256 (hex) of the positions of both."""
    copies: Positive | None = None
    """Number of validation images with the pixels of an image that is trained on; None if there are none."""


@dataclass(frozen=True, kw_only=True)
class Machine(Sparse):
    """The machine that a run was trained on."""

    system: str
    processor: str
    cores: int | None = None
    """Number of CPU cores available to the process, or None if unknown."""
    devices: tuple[str, ...]
    parts: int | None = None
    """Number of micro-batches of a batch, which the run keeps on any machine; None in runs of an earlier version."""
    workers: Positive | None = None
    """Number of workers of the latest session; None if it was one."""
    threads: int | None = None
    """Number of the framework's threads per operation, or None if unknown or in runs of an earlier version."""


@dataclass(frozen=True, kw_only=True)
class StartedFrom(Sparse):
    """The run that fine-tuning started from: the name of its folder, and the SHA-256 (hex) of its weights."""

    run: str
    weights_sha256: str
    other_shapes: tuple[tuple[int, ...], ...] | None = None
    """Shapes of the images of that run and of those before it that differ from this run's."""


@dataclass(frozen=True, kw_only=True)
class RecordedScore(Sparse):
    """Loss and accuracy of the best weights."""

    loss: Finite
    """Mean cross-entropy, nats, or the mean of ``loss_function``."""
    accuracy: Fraction
    images: Positive | None = None
    """Number of images; None for the validation split, which ``hold_out`` counts."""
    loss_function: str | None = None
    """Name of a loss that replaces the cross-entropy, or None."""
    balanced_accuracy: Fraction | None = None
    """Mean of ``recall``; both are only recorded if the largest class is more than three times the smallest one."""
    recall: tuple[Fraction | None, ...] | None = None
    """Recall of each class, in the order of the labels; None for a class without images."""


@dataclass(frozen=True, kw_only=True)
class Metrics(Sparse):
    """Scores of the best weights; None before there are any."""

    validation: RecordedScore | None = None
    test: RecordedScore | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature scaling and selective prediction, fitted on the validation split."""

    temperature: Annotated[float, TEMPERATURES]
    images: Positive
    """Number of validation images."""
    ece_before: Fraction
    """Expected calibration error at temperature 1, 0 to 1."""
    ece_after: Fraction
    """The same at the fitted temperature."""
    loss_before: float
    """Mean cross-entropy at temperature 1, nats."""
    loss_after: float
    """The same at the fitted temperature."""
    coverage: tuple[Coverage, ...]
    abstention: Coverage | None
    """Largest coverage at which ``target_accuracy`` is reached, or None if it is not."""
    target_accuracy: Fraction = TARGET_ACCURACY

    @property
    def threshold(self) -> float | None:
        """Minimum confidence of a prediction, 0 to 1, or None if no threshold reaches the target."""
        return None if self.abstention is None else self.abstention.threshold


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of ``run.json``, in its order. Results are None before a session has ended."""

    status: Status
    recipe: str
    backend: str
    seed: int
    started: datetime
    model: ModelConfig
    train: TrainConfig
    custom: CustomRecord = NO_CUSTOM_RECORD
    """Optimizer and loss that replace those of the recipe."""
    data: DataRecord
    hold_out: HoldOutRecord
    versions: dict[str, str]
    machine: Machine
    warm_start: StartedFrom | None = None
    """None if the run was trained from scratch."""
    why_stopped: StopReason | None = None
    epochs: int | None = None
    best_epoch: Positive | None = None
    """Counted from 1; None also if no epoch had a finite loss."""
    metrics: Metrics = Metrics()
    elapsed_s: float | None = None
    seconds_per_epoch: float | None = None
    """Median, validation included; None also if no epoch ended."""
    calibration: Calibration | None = None
    weights_sha256: str | None = None
    """SHA-256 (hex) of the best weights' file; None also in runs of an earlier version."""
    flip_calibration: Calibration | None = None
    """Calibration with test-time augmentation of two views; None until it is needed."""
    six_view_calibration: Calibration | None = None
    """Calibration with test-time augmentation of six views; None until it is needed."""
    others: dict[str, Any] = field(default_factory=dict)
    """Members added by a later version."""

    @property
    def settings(self) -> Recipe:
        """The recipe with the settings of this run."""
        return Recipe(name=self.recipe, model=self.model, train=self.train)

    @property
    def ending(self) -> str:
        """Why training stopped, in words."""
        return "training had not finished" if self.why_stopped is None else STOP_REASONS[self.why_stopped]

    @property
    def training(self) -> dict[str, Any]:
        """The training settings that apply, by name, as JSON values."""
        return in_effect(self.train.to_json(), self.custom)

    @property
    def origin(self) -> DataRecord:
        """Where the images are, and how they were split."""
        return self.data.resolved(self.train.seed)

    def calibration_for(self, views: int) -> Calibration | None:
        """Return the calibration, with test-time augmentation of several ``views``, or None before it is fitted."""
        found: Calibration | None = getattr(self, CALIBRATIONS[views])
        return found

    def with_calibration(self, found: Calibration, views: int) -> "RunRecord":
        """Return the record with a calibration for ``views``."""
        changes: dict[str, Any] = {CALIBRATIONS[views]: found}
        return replace(self, **changes)

    def without_results(self) -> "RunRecord":
        """Return the record as it was when the run started."""
        no_results: dict[str, Any] = {each.name: each.default for each in fields(self) if each.name in RESULTS}
        return replace(self, **no_results)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``run.json``. Results of an ended session are written even if they are None."""
        known = {name: value for name, value in members(self).items() if name != "others"}
        ended = ENDED if self.why_stopped else frozenset()
        written = {name: value for name, value in known.items() if name in ended or value not in (None, {})}
        return {"format": RECORD_FORMAT, **written, **self.others}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "RunRecord":
        """Return the record that ``to_json`` wrote, by this version or an earlier one. Raises ``RunError``."""
        known = {"format", *(each.name for each in fields(cls))}
        others = {name: value for name, value in document.items() if name not in known}
        if (version := document.get("format")) != RECORD_FORMAT:
            raise RunError(
                f"the run's format is {version!r:.80}; expected {RECORD_FORMAT}: use the cifarnet that wrote it"
            )
        try:
            record: RunRecord = read(cls, document | {"others": others}, "")
            _ = record.settings  # raises if the settings do not fit together
        except (ValueError, ConfigError) as error:
            raise RunError(
                f"run.json is damaged ({error}); expected the record of a run: restore it or start a new run"
            ) from error
        return record


ENDED = frozenset(("why_stopped", "epochs", "best_epoch", "metrics", "elapsed_s", "seconds_per_epoch"))
"""Fields that every session sets when it ends."""
CALIBRATIONS = {1: "calibration", 2: "flip_calibration", 6: "six_view_calibration"}
"""Field with the calibration by the number of views of test-time augmentation; 1 is without it."""
RESULTS = ENDED | {"weights_sha256", *CALIBRATIONS.values()}
"""Fields that a session may set."""
