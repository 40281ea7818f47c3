"""What is to be compared, what comes out, and how two trainings with the same seed differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import NAMES, install_line, installed, require_usable
from cifarnet.dataset import Dataset
from cifarnet.errors import UsageError
from cifarnet.evaluation.significance import Interval, compare
from cifarnet.recipes import Recipe, recipe
from cifarnet.run.folder import EpochRecord


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained.

    Raises ``UsageError`` unless there are two backends or more and each is named once, ``BackendError`` for one that
    is not installed and ``ConfigError`` for an unknown recipe.
    """

    backends: tuple[str, ...]
    epochs: int | None
    """Most epochs, 1 or more; nothing for as many as the recipe, fitted to the images, has.

    The schedule is that recipe's either way.
    """
    seeds: int = 1
    """Each backend is trained with the seeds 0 up to this, 1 or more."""
    recipe: str = "seed"
    source: str = "cifar10"
    """What ``load_dataset`` is given."""

    def __post_init__(self) -> None:
        if not installed():
            raise UsageError(
                f"no framework is installed; expected two or more of {', '.join(NAMES)}: get each with "
                f"{install_line('BACKEND')}"
            )
        if len(set(self.backends)) != len(self.backends) or len(self.backends) < 2:
            raise UsageError(
                f"the backends to compare are {', '.join(self.backends) or 'none'}; expected two or more of "
                f"{', '.join(NAMES)}, each once: name another of those here ({', '.join(installed())}), or get one "
                f"with {install_line('BACKEND')}"
            )
        if self.seeds < 1 or (self.epochs is not None and self.epochs < 1):
            raise UsageError(f"there are {self.seeds} seeds and {self.epochs} epochs; expected at least 1 of each")
        recipe(self.recipe)
        for backend in self.backends:
            require_usable(backend)

    def job(self, dataset: Dataset, seed: int) -> Recipe:
        """Return what is trained with one of the seeds. Raises ``DataError`` for a class with a single image."""
        settings = recipe(self.recipe).changed({"seed": seed}).for_dataset(dataset)
        train = replace(
            settings.train,
            epochs=settings.train.epochs if self.epochs is None else self.epochs,
            schedule_epochs=settings.train.schedule_epochs or settings.train.epochs,
        )
        return replace(settings, train=train)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A score on some images."""

    loss: float
    """Mean cross-entropy, nats."""
    accuracy: float
    """Fraction, 0 to 1."""
    interval: Interval
    """Of the accuracy, Wilson, 95 %."""
    images: int


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, by its record and by what its process measured."""

    backend: str
    seed: int
    run: str
    """The run's folder."""
    first_loss: float
    """Of the first batch as it is minimised, nats."""
    history: tuple[EpochRecord, ...]
    best_epoch: int
    validation: Measured
    """Of the best epoch, as is ``test``."""
    test: Measured
    seconds_per_epoch: float
    """Median, validation included."""
    peak_memory_bytes: int | None
    """Most memory that the process ever held while training; nothing where the system does not tell."""
    devices: tuple[str, ...]
    file_sha256: str
    """Of the exported model file."""
    file_agreement: float
    """Share of the test images that the file, through onnxruntime, takes for the same class, 0 to 1."""
    file_difference: float
    """Largest difference of a logit between the file and the trained model."""


@dataclass(frozen=True)
class Answers:
    """The arrays that one process leaves."""

    logits: NDArray[np.float32]
    """(test images, classes), of the trained model."""
    file_logits: NDArray[np.float32]
    """The same of the exported file."""
    labels: NDArray[np.int32]
    gradients: dict[str, NDArray[np.float32]]
    """Of the first batch, by variable path."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two backends that trained with the same seed."""

    first: str
    second: str
    seed: int
    first_loss_difference: float
    """Of the first batch's losses, nats."""
    gradient_difference: float
    """Largest difference of a gradient's element over the largest element of the same array, worst array."""
    curve_difference: float
    """Largest difference of an epoch's training loss, nats."""
    agreement: float
    """Share of the test images that both take for the same class, 0 to 1."""
    agreement_interval: Interval
    accuracy_difference: float
    """Of the second over the first on the test images, -1 to 1."""
    difference_interval: Interval
    p_value: float
    """McNemar's exact test on the test images, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that was found."""

    plan: Plan
    data: str
    test_images: int
    trainings: tuple[Training, ...]
    pairs: tuple[Pair, ...]

    def of(self, backend: str) -> list[Training]:
        """Return the trainings on one backend, by seed."""
        return [each for each in self.trainings if each.backend == backend]

    def to_json(self) -> dict[str, Any]:
        """Return every figure as JSON values."""
        return asdict(self)


def pair(first: Training, second: Training, answers: Mapping[str, Answers], names: Sequence[str]) -> Pair:
    """Return how two trainings with the same seed differ; ``answers`` are theirs by backend."""
    ours, theirs = answers[first.backend], answers[second.backend]
    found = compare(ours.logits, theirs.logits, ours.labels, names)
    return Pair(
        first=first.backend,
        second=second.backend,
        seed=first.seed,
        first_loss_difference=abs(first.first_loss - second.first_loss),
        gradient_difference=gradient_difference(ours.gradients, theirs.gradients),
        curve_difference=max(
            abs(a.train_loss - b.train_loss) for a, b in zip(first.history, second.history, strict=False)
        ),
        agreement=found.agreement,
        agreement_interval=found.agreement_interval,
        accuracy_difference=found.accuracy_difference,
        difference_interval=found.difference_interval,
        p_value=found.p_value,
    )


def gradient_difference(first: Mapping[str, NDArray[np.float32]], second: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the largest difference of an element over the largest element of its array; of all arrays the worst.

    0 where both are nothing but zeros, and infinity where one is and the other is not.
    """
    return max(_relative(first[path], second[path]) for path in first)


def _relative(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    difference = float(np.abs(first - second).max())
    scale = min(float(np.abs(first).max()), float(np.abs(second).max()))
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf


def pairs(trainings: Sequence[Training], answers: Mapping[str, Answers], names: Sequence[str]) -> list[Pair]:
    """Return every two of the trainings, which share one seed."""
    return [pair(one, other, answers, names) for one, other in combinations(trainings, 2)]
