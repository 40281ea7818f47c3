"""The run record: ``run.json`` as a typed value, checked once when it is read."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.dataset import Dataset, SplitBy
from cifarnet.errors import ConfigError, RunError

from .job import Job, Origin
from .typed_json import Fraction, Positive, members, read

RECORD_FORMAT = 1
"""Version of the layout of ``run.json``."""
TEMPERATURES = (0.05, 20.0)
"""Between which a temperature is looked for: beyond, a network's probabilities are all 1 or all alike."""
TARGET_ACCURACY = 0.9
"""Of the answers that are given, where a classifier may abstain."""
Status = Literal["running", "interrupted", "finished"]
StopReason = Literal["patience", "epochs", "interrupted", "nan", "time limit"]


class Sparse:
    """A part of the record whose JSON leaves out what is None."""

    def to_json(self) -> dict[str, Any]:
        """Return the other fields as JSON values."""
        return {name: value for name, value in members(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The data set of a run. Fields as in ``Dataset``, images as counts."""

    source: str | None
    name: str
    fingerprint: str
    # Earlier versions recorded neither rule nor seed: they divided by position, with the seed of the training.
    split_by: SplitBy | None = "position"
    split_seed: int | None = None
    train_images: int
    """Held-out images included."""
    test_images: int
    labels: tuple[str, ...]

    @classmethod
    def of(cls, job: Job, dataset: Dataset) -> "DataRecord":
        """Return what a run of ``job`` records of ``dataset``. Raises ``ConfigError`` as ``Job.source_of``."""
        return cls(
            source=job.source_of(dataset),
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            split_by=dataset.split_by,
            split_seed=dataset.split_seed,
            train_images=len(dataset.train),
            test_images=len(dataset.test),
            labels=dataset.labels,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without rule and seed where an earlier version recorded none."""
        document = members(self)
        if self.split_by == "position" and self.split_seed is None:
            del document["split_by"], document["split_seed"]
        return document

    def origin(self, seed: int) -> Origin:
        """Return how to open the data set again; ``seed`` is that of the training."""
        return Origin(
            source=self.source,
            name=self.name,
            fingerprint=self.fingerprint,
            split_by=self.split_by or "content",
            split_seed=seed if self.split_seed is None else self.split_seed,
        )


@dataclass(frozen=True, kw_only=True)
class HoldOutRecord:
    """How many images were trained on and held out, and the SHA-256 (hex) of their positions."""

    train: int
    validation: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Machine(Sparse):
    """What a run was trained on."""

    system: str
    processor: str
    cores: int | None = None
    """That the process may use, or None where the system does not tell."""
    devices: tuple[str, ...]
    parts: int | None = None
    """Micro-batches of a batch, or None where that was not recorded."""


@dataclass(frozen=True, kw_only=True)
class StartedFrom:
    """The run whose convolutions a run started from: the name of its folder, and the SHA-256 (hex) of its weights."""

    run: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class RecordedScore(Sparse):
    """How well the best weights do on some images."""

    loss: float
    """Mean cross-entropy, nats."""
    accuracy: Fraction
    images: Positive | None = None
    """Number of images; None for the held-out ones, which ``hold_out`` counts."""


@dataclass(frozen=True, kw_only=True)
class Metrics(Sparse):
    """The scores of the best weights; None before there are any."""

    validation: RecordedScore | None = None
    test: RecordedScore | None = None


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What is gained by answering only where the calibrated confidence is at least ``threshold``."""

    coverage: Fraction
    """Share of the images that is answered, 0 to 1."""
    threshold: Fraction
    """Least calibrated confidence of those, 0 to 1."""
    accuracy: Fraction
    """Of the answers, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted on held-out images: the temperature, and when to abstain."""

    temperature: Annotated[float, TEMPERATURES]
    images: Positive
    """Held-out images that it rests on."""
    ece_before: Fraction
    """Expected calibration error at temperature 1, 0 to 1."""
    ece_after: Fraction
    """The same at the fitted temperature."""
    loss_before: float
    """Mean cross-entropy at temperature 1, nats."""
    loss_after: float
    coverage: tuple[Coverage, ...]
    abstention: Coverage | None
    """The largest coverage whose answers are right in 90 of 100 cases, or None where there is none."""
    target_accuracy: Fraction = TARGET_ACCURACY

    @property
    def threshold(self) -> float | None:
        """Return the least confidence of an answer, 0 to 1, or None where no threshold reaches the target."""
        return None if self.abstention is None else self.abstention.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return members(self)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything that ``run.json`` tells, in its order. Results are None before a session has ended."""

    status: Status
    recipe: str
    backend: str
    seed: int
    started: datetime
    model: ModelConfig
    train: TrainConfig
    data: DataRecord
    hold_out: HoldOutRecord
    versions: dict[str, str]
    machine: Machine
    warm_start: StartedFrom | None = None
    """None if the run started anew."""
    why_stopped: StopReason | None = None
    epochs: int | None = None
    """Finished ones."""
    best_epoch: Positive | None = None
    """Counted from 1; None also where no epoch had a finite loss."""
    metrics: Metrics = Metrics()
    elapsed_s: float | None = None
    seconds_per_epoch: float | None = None
    """Median; None also where no epoch ended."""
    calibration: Calibration | None = None
    weights_sha256: str | None = None
    """Of the file with the best weights (hex); None also in runs of an earlier version."""
    flip_calibration: Calibration | None = None
    """With test-time augmentation; None until it was needed."""
    others: dict[str, Any] = field(default_factory=dict)
    """Members that a later version added."""

    @property
    def job(self) -> Job:
        """Return what is trained."""
        return Job(recipe=self.recipe, model=self.model, train=self.train, source=self.data.source)

    @property
    def origin(self) -> Origin:
        """Return how to open the images again."""
        return self.data.origin(self.train.seed)

    def calibration_for(self, *, flip: bool) -> Calibration | None:
        """Return the calibration, with ``flip`` that with test-time augmentation, or None before it is fitted."""
        return self.flip_calibration if flip else self.calibration

    def without_results(self) -> "RunRecord":
        """Return the record as it was when the run started."""
        no_results: dict[str, Any] = {each.name: each.default for each in fields(self) if each.name in RESULTS}
        return replace(self, **no_results)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``run.json``. The nulls of a session that ended without a good epoch are told."""
        known = {name: value for name, value in members(self).items() if name != "others"}
        ended = ENDED if self.why_stopped else frozenset()
        told = {name: value for name, value in known.items() if name in ended or value not in (None, {})}
        return {"format": RECORD_FORMAT, **told, **self.others}

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
            _ = record.job  # raises where the settings do not fit together
        except (ValueError, ConfigError) as error:
            raise RunError(
                f"run.json is damaged ({error}); expected the record of a run: restore it or start a new run"
            ) from error
        return record


ENDED = frozenset(("why_stopped", "epochs", "best_epoch", "metrics", "elapsed_s", "seconds_per_epoch"))
"""What every session adds to the record when it ends."""
RESULTS = ENDED | {"calibration", "weights_sha256", "flip_calibration"}
"""What a session may add."""
