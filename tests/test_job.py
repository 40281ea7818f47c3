"""Which epoch the best weights of a run are of, whether or not it came to its end."""

import math

import h5py
import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import RunError
from cifarnet.job import best_epoch_of
from cifarnet.run import EpochRecord, Run
from cifarnet.spec import EPOCH_ATTRIBUTE

UNFINISHED = {
    "format": 1,
    "status": "running",
    "recipe": "seed",
    "model": ModelConfig().to_json(),
    "train": TrainConfig(min_delta=0.01).to_json(),
    "data": {"source": "synthetic"},
}


def run_with(folder, losses, **facts):
    """Return a run whose epochs have these losses, of training and validation."""
    run = Run(folder)
    run.write_record(UNFINISHED | facts)
    if losses:
        run.write_history(
            [EpochRecord(epoch, 0.1, train, 0.5, held_out, 0.5) for epoch, (train, held_out) in enumerate(losses, 1)]
        )
    return run


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([], None),
        ([(1.0, 0.9), (1.0, 0.5), (1.0, 0.7)], 2),
        ([(1.0, 0.9), (1.0, 0.5), (1.0, 0.495)], 2),  # a fall of less than min_delta
        ([(1.0, 0.9), (1.0, 0.5), (math.inf, 0.1)], 2),  # an epoch that overflowed
        ([(1.0, math.nan)], None),
    ],
)
def test_while_there_are_no_results_the_history_tells(tmp_path, losses, best):
    assert best_epoch_of(run_with(tmp_path, losses)) == best


@pytest.mark.parametrize("recorded", [1, None])
def test_the_record_wins_over_the_history(tmp_path, recorded):
    assert best_epoch_of(run_with(tmp_path, [(1.0, 0.9), (1.0, 0.5)], best_epoch=recorded)) == recorded


@pytest.mark.parametrize(("epoch", "best"), [(2, 2), (1, 1), (0, 1), ("two", 1), ([1, 2], 1), (None, 1)])
def test_while_there_are_no_results_the_weights_tell_before_the_history(tmp_path, epoch, best):
    run = run_with(tmp_path, [(1.0, 0.9)])  # the second epoch is not in it yet
    with h5py.File(run.best_weights, "w") as file:
        if epoch is not None:
            file.attrs[EPOCH_ATTRIBUTE] = epoch
    assert best_epoch_of(run) == best
    run.best_weights.write_bytes(b"damaged")
    assert best_epoch_of(run) == 1


@pytest.mark.parametrize("recorded", ["2", 0, 1.5, True, []])
def test_a_damaged_record_is_refused(tmp_path, recorded):
    with pytest.raises(RunError, match=r"run.json has the best epoch .*; expected a whole number from 1, or null: "):
        best_epoch_of(run_with(tmp_path, [(1.0, 0.9)], best_epoch=recorded))
