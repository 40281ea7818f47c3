"""Train every backend with every seed, one after the other, and put together what came out."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import write_atomically
from cifarnet.dataset import Dataset
from cifarnet.errors import UsageError
from cifarnet.evaluation.significance import wilson
from cifarnet.recipes import Recipe
from cifarnet.run.folder import Run
from cifarnet.run.origin import require_outside
from cifarnet.run.record import RecordedScore
from cifarnet.run.typed_json import json_text
from cifarnet.system import processor, usable_cores, versions

from .children import EpochWatcher, train_in_child
from .picture import draw
from .values import Answers, Comparison, Measured, Pair, Plan, Training, pairs

RESULT, PICTURE, RUNS = "comparison.json", "comparison.png", "runs"
"""What a comparison's folder holds."""


def compare_backends(plan: Plan, dataset: Dataset, folder: Path, watch: EpochWatcher) -> Comparison:
    """Train what ``plan`` says into ``folder``, which may not hold anything yet, and return what was found.

    ``dataset`` is what the plan's source opens as; each process opens the same images, divided in the same way whatever
    its seed. They run one after the other, since two at once would spoil each other's times; with one seed all start
    from the same weights and see the same images in the same order under the same dropout masks. ``folder`` gets the
    runs, the figures and the picture. Raises ``BackendError`` for a process that fails, ``ConfigError`` and
    ``UsageError`` for what cannot be trained.
    """
    jobs = [plan.job(dataset, seed) for seed in range(plan.seeds)]
    require_outside(folder, dataset.source, "--output")
    _prepare(folder)
    rounds = [_train_all(plan.backends, job, dataset, folder, watch) for job in jobs]
    comparison = Comparison(
        plan=plan,
        data=dataset.name,
        test_images=len(dataset.test),
        trainings=tuple(training for trainings, _ in rounds for training in trainings),
        pairs=tuple(pair for _, found in rounds for pair in found),
    )
    _write(comparison, folder)
    return comparison


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be used ({error.strerror}); expected a new folder to write to: give another name"
        ) from error
    if entries:
        raise UsageError(f"{folder} holds {min(entries)} already; expected a new or an empty folder: give another name")


def _train_all(
    backends: Sequence[str], job: Recipe, dataset: Dataset, folder: Path, watch: EpochWatcher
) -> tuple[list[Training], list[Pair]]:
    """Return the trainings of one seed, and how each two of them differ."""
    trainings, answers = [], {}
    # The gradients alone take megabytes, and both runs and files can give all of it again: none of it is kept.
    with tempfile.TemporaryDirectory(prefix="cifarnet-") as temporary:
        for backend in backends:
            arrays = Path(temporary) / f"{backend}.npz"
            told = train_in_child(backend, job, dataset, folder / RUNS, arrays, watch)
            answers[backend] = _read(arrays)
            trainings.append(_training(backend, told, answers[backend]))
    return trainings, pairs(trainings, answers, dataset.labels)


def _read(path: Path) -> Answers:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    gradients = {name: arrays.pop(name) for name in list(arrays) if name.startswith("gradient/")}
    return Answers(**arrays, gradients=gradients)


def _training(backend: str, told: dict[str, Any], answers: Answers) -> Training:
    run = Run(Path(told.pop("run")))
    record = run.record
    validation, test = record.metrics.validation, record.metrics.test
    assert record.best_epoch is not None  # or the child had failed
    assert validation is not None
    assert test is not None
    assert record.seconds_per_epoch is not None
    return Training(
        backend=backend,
        seed=record.seed,
        run=str(run),
        history=tuple(run.read_history()),
        best_epoch=record.best_epoch,
        validation=_measured(validation, record.hold_out.validation),
        test=_measured(test, len(answers.labels)),
        seconds_per_epoch=record.seconds_per_epoch,
        file_agreement=float(np.mean(answers.logits.argmax(axis=1) == answers.file_logits.argmax(axis=1))),
        file_difference=_largest(answers.logits, answers.file_logits),
        **told,
    )


def _measured(score: RecordedScore, images: int) -> Measured:
    interval = wilson(round(score.accuracy * images), images)
    return Measured(loss=score.loss, accuracy=score.accuracy, images=images, interval=interval)


def _largest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max())


def _write(comparison: Comparison, folder: Path) -> None:
    machine = {"processor": processor(), "cores": usable_cores()}
    document = {"format": 1, "versions": versions(), "machine": machine, **comparison.to_json()}
    draw(comparison, folder / PICTURE)
    write_atomically(folder / RESULT, (json_text(document) + "\n").encode())
