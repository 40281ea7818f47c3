"""A run begins whole or not at all."""

import errno
import fcntl
import os

import pytest

from cifarnet.backends import choose

choose()

from cifarnet.config import ModelConfig, TrainConfig  # noqa: E402  # after the backend is chosen
from cifarnet.data import synthetic  # noqa: E402
from cifarnet.errors import RunError  # noqa: E402
from cifarnet.job import Job  # noqa: E402
from cifarnet.run import find_run  # noqa: E402
from cifarnet.training import start  # noqa: E402

JOB = Job(recipe="seed", model=ModelConfig(), train=TrainConfig(), source="synthetic")


def test_where_a_run_cannot_be_locked_none_is_made_and_latest_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    dataset = synthetic(train=100, test=10)
    run = start(JOB, dataset, tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match=r"\.lock could not be locked \(No locks available\); expected .* \(--runs\)"):
        start(JOB, dataset, tmp_path)
    assert find_run(tmp_path).path == run.path
    assert {path.name for path in tmp_path.iterdir()} == {"latest", run.path.name}
