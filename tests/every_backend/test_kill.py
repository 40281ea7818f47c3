"""``kill -9`` at random instants, in the middle of a write too, and then resume: the same bits as never killed."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from cifarnet.model import build_model, get_weights, load_weights
from cifarnet.run import find_run

from .conftest import SMALL_MODEL

PROJECT = Path(__file__).parents[2]


def live(runs, batches=0, writes=0):
    command = [sys.executable, "-m", "tests.every_backend.victim", runs, str(batches), str(writes)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_killed_at_random_instants_and_resumed_is_as_never_killed(tmp_path):
    rng = np.random.default_rng(0)
    untouched = live(tmp_path / "untouched")
    assert untouched.returncode == 0, untouched.stderr
    # No more writes than the run has yet to make, even if every death sets it back: one epoch makes six.
    for death in ({"writes": 3}, {"batches": 8}, {"writes": 8}, {"batches": 8}, {"writes": 5}):
        (kind, most), *_ = death.items()
        died = live(tmp_path / "killed", **{kind: rng.integers(1, most + 1)})
        assert died.returncode == -signal.SIGKILL, died.stderr
    last = live(tmp_path / "killed")
    assert last.returncode == 0, last.stderr
    assert_same_run(find_run(tmp_path / "untouched"), find_run(tmp_path / "killed"))


def assert_same_run(one, other):
    assert one.read_record()["status"] == other.read_record()["status"] == "finished"
    assert one.read_record()["metrics"] == other.read_record()["metrics"]
    assert {path.name for path in other.path.glob(".*")} <= {".lock"}
    assert (one.path / "history.csv").read_bytes() == (other.path / "history.csv").read_bytes()
    weights = []
    for run in (one, other):
        model = build_model(SMALL_MODEL)
        load_weights(model, run.best_weights)
        weights.append(get_weights(model))
    for path, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][path])
