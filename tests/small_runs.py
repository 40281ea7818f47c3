"""Fixtures of a small real training. A conftest imports them once Keras' framework is chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
from cifarnet.dataset import Dataset
from cifarnet.recipes import Recipe
from cifarnet.run.folder import Run
from cifarnet.training.begin import begin
from cifarnet.training.train import resume

SMALL_MODEL = ModelConfig(filters=(6,), dense_units=(16,), dropout=0.25)
SMALL_TRAINING = TrainConfig(epochs=3, schedule_epochs=3, learning_rate=3e-3, weight_decay=0.01)
SMALL_JOB = Recipe(name="seed", model=SMALL_MODEL, train=SMALL_TRAINING)
NORMALISED = {
    "whitening": 2,
    "convolutions_per_block": 2,
    "pooling": "first",
    "ghost_batch": 16,
    "global_pooling": "average",
    "dense_units": (),
}
AUGMENTED = {
    "flip": "alternating",
    "translation": 2,
    "cutout": 6,
    "precision": "bfloat16",
    "label_smoothing": 0.2,
    "optimizer": "muon",
    "schedule": "linear",
}
NORMALISED_JOB = replace(
    SMALL_JOB, model=replace(SMALL_MODEL, **NORMALISED), train=replace(SMALL_TRAINING, learning_rate=0.05, **AUGMENTED)
)
"""With everything that the recipes `fast` and `strong` have beside the small job."""
WORKERS_JOB = replace(
    NORMALISED_JOB,
    name="tiny",
    model=replace(NORMALISED_JOB.model, ghost_batch=10, convolutions_per_block=1, dense_units=(16,)),
    train=replace(NORMALISED_JOB.train, epochs=2, schedule_epochs=2),
)
"""The same with dropout, in three micro-batches per batch: two workers have an uneven share, a fourth one has none."""


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return synthetic(train=320, test=100)


@pytest.fixture
def job() -> Recipe:
    return SMALL_JOB


@pytest.fixture
def normalised() -> Recipe:
    return NORMALISED_JOB


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class Finished(NamedTuple):
    """A run that was trained, and its record."""

    run: Run
    record: dict[str, Any]


@pytest.fixture(scope="session")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The small job, trained without a break: what interrupted ones are compared with. Not to be altered."""
    return finished(SMALL_JOB, dataset, tmp_path_factory.mktemp("whole"))


def with_training(job: Recipe, **changes) -> Recipe:
    """The same job with other training settings."""
    return replace(job, train=replace(job.train, **changes))


def finished(job, dataset, runs, *, warm_start=None, **limits) -> Finished:
    run = begin(job, dataset, runs, warm_start=warm_start)
    return Finished(run, resume(run, dataset, **limits).record.to_json())


def stop_after(batches):
    """A stop request that comes true when it was asked for the given time."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= batches


def assert_same_results(one, other):
    """Check that two runs have the same history and best weights, bit for bit."""
    assert (one.path / "history.csv").read_bytes() == (other.path / "history.csv").read_bytes()
    assert one.best_weights.read_bytes() == other.best_weights.read_bytes()
