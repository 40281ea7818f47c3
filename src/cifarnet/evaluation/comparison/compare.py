"""Train a plan on each backend, one process after the other, and compare the results."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import temporary_folder, write_atomically
from cifarnet.backends import NAMES, install_line, installed, require_usable
from cifarnet.dataset import Dataset
from cifarnet.errors import UsageError
from cifarnet.evaluation.scoring import Score
from cifarnet.evaluation.significance import Interval, compare, wilson
from cifarnet.recipes import Recipe, recipe_and_settings
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.origin import require_outside
from cifarnet.run.record import RecordedScore
from cifarnet.run.typed_json import json_text
from cifarnet.system import processor, usable_cores, versions

from .process import EpochCallback, train_in_child

RESULT, PICTURE, RUNS = "comparison.json", "comparison.png", "runs"
"""Contents of the folder of a comparison."""

Arrays = Mapping[str, NDArray[np.float32]]
"""Arrays of a training process: ``logits`` and ``file_logits`` of the test images, (n, classes), and gradients of the
first batch as ``gradient/PATH`` of their variable."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The training runs of a comparison.

    Raises ``UsageError`` unless there are two or more different backends, ``BackendError`` for one that is not
    installed and ``ConfigError`` for an unknown recipe or a file that is none.
    """

    backends: tuple[str, ...]
    epochs: int | None
    """Maximum number of epochs, 1 or more, or None for that of the recipe, whose schedule is used in any case."""
    seeds: int = 1
    """Number of seeds per backend, starting at 0."""
    recipe: str = "seed"
    """Name of a recipe, or a recipe file."""
    source: str = "cifar10"
    """Argument of ``load_dataset``."""

    def __post_init__(self) -> None:
        if len(set(self.backends)) != len(self.backends) or len(self.backends) < 2:
            raise UsageError(
                f"the backends to compare are {', '.join(self.backends) or 'none'}; expected two or more of "
                f"{', '.join(NAMES)}, each once (installed: {', '.join(installed()) or 'none'}): name others, or "
                f"install one with {install_line('BACKEND')}"
            )
        recipe_and_settings(self.recipe)
        for backend in self.backends:
            require_usable(backend)

    def settings(self, dataset: Dataset, seed: int) -> Recipe:
        """Return what is trained with one seed. Raises ``DataError`` for a class with a single image."""
        named, changes = recipe_and_settings(self.recipe)
        settings = named.changed({"seed": seed}).for_dataset(dataset, changes)
        train = replace(
            settings.train,
            epochs=settings.train.epochs if self.epochs is None else self.epochs,
            schedule_epochs=settings.train.schedule_epochs or settings.train.epochs,
        )
        return replace(settings, train=train)


@dataclass(frozen=True, kw_only=True)
class ScoreWithInterval(Score):
    """Loss and accuracy on a number of images, with the 95% Wilson interval of the accuracy."""

    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: the results in its run record, and measurements of its process."""

    backend: str
    seed: int
    run: str
    first_loss: float
    """Training loss of the first batch, nats."""
    history: tuple[EpochRecord, ...]
    best_epoch: int
    validation: ScoreWithInterval
    test: ScoreWithInterval
    seconds_per_epoch: float
    """Median, including validation."""
    peak_memory_bytes: int | None
    """Peak memory of the process during training, or None if unknown."""
    devices: tuple[str, ...]
    file_sha256: str
    """SHA-256 of the exported model file, hex."""
    file_agreement: float
    """Share of the test images for which the file in onnxruntime predicts the same class, 0 to 1."""
    file_difference: float
    """Largest absolute difference of a logit between file and trained model."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Differences between two backends trained with the same seed."""

    first: str
    second: str
    seed: int
    first_loss_difference: float
    """Difference of the training loss of the first batch, nats."""
    gradient_difference: float
    curve_difference: float
    """Largest difference of an epoch's training loss, nats."""
    agreement: float
    """Share of the test images with the same predicted class, 0 to 1."""
    agreement_interval: Interval
    accuracy_difference: float
    """Test accuracy of the second minus that of the first, -1 to 1."""
    difference_interval: Interval
    p_value: float
    """p-value of McNemar's exact test on the test images, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All results of a comparison."""

    plan: Plan
    data: str
    test_images: int
    trainings: tuple[Training, ...]
    pairs: tuple[Pair, ...]

    def of(self, backend: str) -> list[Training]:
        """Return the training runs on one backend, by seed."""
        return [each for each in self.trainings if each.backend == backend]


def compare_backends(plan: Plan, dataset: Dataset, folder: Path, on_epoch: EpochCallback) -> Comparison:
    """Train ``plan`` and write the runs, the results and a figure to ``folder``, which must be new or empty.

    ``dataset`` is the plan's source; every process opens the same images with the same splits. The processes run one
    after the other, so that their times are comparable. With the same seed all start from the same weights and see the
    same batches and dropout masks. Raises ``BackendError`` if a process fails, ``ConfigError`` and ``UsageError`` for
    an invalid plan or folder.
    """
    from .charts import draw_comparison

    every = [plan.settings(dataset, seed) for seed in range(plan.seeds)]
    require_outside(folder, dataset.source, "--output")
    _create(folder)
    trainings: list[Training] = []
    pairs: list[Pair] = []
    for settings in every:
        results = [_train(backend, settings, dataset, folder / RUNS, on_epoch) for backend in plan.backends]
        trainings += [training for training, _ in results]
        pairs += [_pair(first, second, dataset) for first, second in combinations(results, 2)]
    comparison = Comparison(
        plan=plan,
        data=dataset.name,
        test_images=len(dataset.test),
        trainings=tuple(trainings),
        pairs=tuple(pairs),
    )
    draw_comparison(comparison, folder / PICTURE)
    machine = {"processor": processor(), "cores": usable_cores()}
    document = {"format": 1, "versions": versions(), "machine": machine, **asdict(comparison)}
    write_atomically(folder / RESULT, (json_text(document) + "\n").encode())
    return comparison


def _create(folder: Path) -> None:
    """Create the folder with its folder for runs, which claims it: of two processes the second fails."""
    if folder.is_dir() and (entries := sorted(path.name for path in folder.iterdir())):
        raise UsageError(f"{folder} holds {entries[0]} already; expected a new or an empty folder: give another name")
    try:
        (folder / RUNS).mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be used ({error.strerror}); expected a new folder to write to: give another name"
        ) from error


def _train(
    backend: str, settings: Recipe, dataset: Dataset, runs: Path, on_epoch: EpochCallback
) -> tuple[Training, Arrays]:
    # Gradients alone take megabytes, and can be computed again: only the run is kept.
    with temporary_folder() as temporary:
        path = temporary / f"{backend}.npz"
        result = train_in_child(backend, settings, dataset, runs, path, on_epoch)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    return _training(backend, result, arrays), arrays


def _training(backend: str, result: dict[str, Any], arrays: Arrays) -> Training:
    run = Run(Path(result.pop("run")))
    record, logits, file_logits = run.record, arrays["logits"], arrays["file_logits"]
    validation, test = record.metrics.validation, record.metrics.test
    assert record.best_epoch is not None  # otherwise the process had failed
    assert validation is not None
    assert test is not None
    assert record.seconds_per_epoch is not None
    return Training(
        backend=backend,
        seed=record.seed,
        run=str(run),
        history=tuple(run.read_history()),
        best_epoch=record.best_epoch,
        validation=_with_interval(validation, record.hold_out.validation),
        test=_with_interval(test, len(logits)),
        seconds_per_epoch=record.seconds_per_epoch,
        file_agreement=float(np.mean(logits.argmax(axis=1) == file_logits.argmax(axis=1))),
        file_difference=float(np.abs(logits - file_logits).max()),
        **result,
    )


def _with_interval(score: RecordedScore, images: int) -> ScoreWithInterval:
    interval = wilson(round(score.accuracy * images), images)
    return ScoreWithInterval(loss=score.loss, accuracy=score.accuracy, images=images, interval=interval)


def _pair(one: tuple[Training, Arrays], other: tuple[Training, Arrays], dataset: Dataset) -> Pair:
    (first, ours), (second, theirs) = one, other
    found = compare(ours["logits"], theirs["logits"], dataset.test.labels, dataset.labels)
    gradients = ({name: each[name] for name in each if name.startswith("gradient/")} for each in (ours, theirs))
    rows = zip(first.history, second.history, strict=False)
    return Pair(
        first=first.backend,
        second=second.backend,
        seed=first.seed,
        first_loss_difference=abs(first.first_loss - second.first_loss),
        gradient_difference=gradient_difference(*gradients),
        curve_difference=max(abs(a.train_loss - b.train_loss) for a, b in rows),
        agreement=found.agreement,
        agreement_interval=found.agreement_interval,
        accuracy_difference=found.accuracy_difference,
        difference_interval=found.difference_interval,
        p_value=found.p_value,
    )


def gradient_difference(first: Arrays, second: Arrays) -> float:
    """Return the largest difference in a gradient, relative to its largest element; that of the worst gradient.

    It is 0 if both are zero throughout, and infinite if only one is.
    """
    return max(_relative(first[path], second[path]) for path in first)


def _relative(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    difference = float(np.abs(first - second).max())
    scale = min(float(np.abs(first).max()), float(np.abs(second).max()))
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf
