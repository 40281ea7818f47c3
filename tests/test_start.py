"""A run folder is created completely or not at all, and the record identifies its weights."""

import errno
import fcntl
import hashlib
import os

import pytest

from cifarnet.backends import choose

choose()

from cifarnet.config import ModelConfig, TrainConfig  # noqa: E402  # after the backend is chosen
from cifarnet.data import synthetic  # noqa: E402
from cifarnet.errors import RunError  # noqa: E402
from cifarnet.recipes import Recipe  # noqa: E402
from cifarnet.run.find import find_run  # noqa: E402
from cifarnet.training.begin import begin  # noqa: E402
from cifarnet.training.train import resume  # noqa: E402

JOB = Recipe(name="seed", model=ModelConfig(), train=TrainConfig())


def test_where_a_run_cannot_be_locked_none_is_made_and_latest_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    dataset = synthetic(train=100, test=10)
    run = begin(JOB, dataset, tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        RunError, match=r"\.lock could not be locked \(No locks available\); expected .* \(--runs, in Python runs=\)"
    ):
        begin(JOB, dataset, tmp_path)
    assert find_run(tmp_path).path == run.path
    assert {path.name for path in tmp_path.iterdir()} == {"latest", run.path.name}


def test_a_run_whose_training_ended_knows_its_best_weights(tmp_path):
    small = Recipe(
        name="seed",
        model=ModelConfig(filters=(4,), dense_units=(8,)),
        train=TrainConfig(epochs=2),
    )
    dataset = synthetic(train=100, test=10)
    run = begin(small, dataset, tmp_path)
    for stop in (lambda: bool(run.read_history()), lambda: False):  # interrupted, then resumed to its end
        record = resume(run, dataset, stop=stop).record
        sound = run.best_weights.read_bytes()
        assert record.weights_sha256 == hashlib.sha256(sound).hexdigest()
        run.load_model()
        run.best_weights.write_bytes(sound + b"others")
        with pytest.raises(RunError, match="as when its training ended"):
            run.load_model()
        run.best_weights.write_bytes(sound)
