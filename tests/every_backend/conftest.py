"""Small real things to train: the suite here runs once per backend, chosen from outside."""

from dataclasses import replace
from pathlib import Path

import pytest

from cifarnet.backends import choose

choose()  # before any test module imports Keras

from cifarnet.config import ModelConfig, TrainConfig  # noqa: E402  # after the backend is chosen
from cifarnet.data import synthetic  # noqa: E402
from cifarnet.spec import Dataset  # noqa: E402
from cifarnet.training import Job  # noqa: E402

SMALL_MODEL = ModelConfig(filters=(8, 8, 8), dense_units=(32, 32, 32), dropout=0.25)
SMALL_TRAINING = TrainConfig(epochs=3, schedule_epochs=3, learning_rate=3e-3, weight_decay=0.01)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return synthetic(train=320, test=100)


@pytest.fixture
def job() -> Job:
    return Job(recipe="seed", model=SMALL_MODEL, train=SMALL_TRAINING, source="synthetic")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class Watcher:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.progress, self.epochs = [], []

    def on_progress(self, progress) -> None:
        self.progress.append(progress)

    def on_epoch(self, record, progress) -> None:
        self.epochs.append(record)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def with_training(job: Job, **changes) -> Job:
    """The same job with other training settings."""
    return replace(job, train=replace(job.train, **changes))
