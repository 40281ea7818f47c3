"""Small real things to train: the suite here runs once per backend, chosen from outside."""

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cifarnet.backends import adapter, choose

choose()  # before any test module imports Keras

# Every training here compiles the same few small functions again: JAX may take them from this folder instead.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the processes that the tests start inherit it
    COMPILED = tempfile.mkdtemp(prefix="cifarnet-jax-")
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from cifarnet.config import ModelConfig, TrainConfig  # noqa: E402  # after the backend is chosen
from cifarnet.data import synthetic  # noqa: E402
from cifarnet.job import Job  # noqa: E402
from cifarnet.run import EpochRecord, Run  # noqa: E402
from cifarnet.spec import Dataset  # noqa: E402
from cifarnet.training import carry_out, start  # noqa: E402

adapter()  # before a test runs a command in this process, which would be set up for it alone

SMALL_MODEL = ModelConfig(filters=(6,), dense_units=(16,), dropout=0.25)
SMALL_TRAINING = TrainConfig(epochs=3, schedule_epochs=3, learning_rate=3e-3, weight_decay=0.01)
SMALL_JOB = Job(recipe="seed", model=SMALL_MODEL, train=SMALL_TRAINING, source="synthetic")


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return synthetic(train=320, test=100)


@pytest.fixture
def job() -> Job:
    return SMALL_JOB


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


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, with its record and what its observer saw."""

    run: Run
    record: dict[str, Any]
    epochs: list[EpochRecord]


@pytest.fixture(scope="session")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The small job, trained without a break: what interrupted ones are compared with. Not to be altered."""
    watcher = Watcher()
    run = start(SMALL_JOB, dataset, tmp_path_factory.mktemp("whole"))
    return Finished(run, carry_out(run, dataset, watcher), watcher.epochs)


def with_training(job: Job, **changes) -> Job:
    """The same job with other training settings."""
    return replace(job, train=replace(job.train, **changes))
