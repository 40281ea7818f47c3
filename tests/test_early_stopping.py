"""Early stopping equals that of Keras, except that NaN is never an improvement and resume keeps its state."""

import json
import math
from dataclasses import asdict

import pytest

from cifarnet.training.early_stopping import EarlyStopping

NAN = math.nan


def after(stopping: EarlyStopping, losses: list[float]) -> tuple[int, int]:
    """Return the epoch after which training stops (or the last one) and the best epoch."""
    for epoch, loss in enumerate(losses, start=1):
        stopping.update(epoch, loss)
        if stopping.patience_left == 0:
            return epoch, stopping.best_epoch
    return len(losses), stopping.best_epoch


def test_a_relative_min_delta_is_a_fraction_of_the_loss_of_any_size_and_sign():
    for size in (1e-6, 1.0, 1e6):
        losses = [size * loss for loss in (2, 1.5, 1.499, 1.49)]
        assert after(EarlyStopping(1e-3, 9, is_relative=True), losses[:3]) == (3, 2)
        assert after(EarlyStopping(1e-3, 9, is_relative=True), losses) == (4, 4)
        assert after(EarlyStopping(1e-3, 9, is_relative=True), [-loss for loss in losses[::-1]]) == (4, 4)
    assert after(EarlyStopping(1e-3, 9), [2e-6, 1e-6]) == (2, 1)


@pytest.mark.parametrize(
    ("patience", "min_delta", "losses", "stopped_after", "best_epoch"),
    [
        pytest.param(2, 0, [3, 1, 2, 2, 0], 4, 2, id="patience runs out before a better epoch"),
        pytest.param(3, 0, [3, 1, 2, 2, 0], 5, 5, id="patience lasts until a better epoch"),
        pytest.param(1, 0, [3, 1, 2, 0], 3, 2, id="patience of one"),
        pytest.param(9, 0, [3, 1, 2, 2], 4, 2, id="epochs run out first"),
        pytest.param(2, 0, [1, 1, 1, 1], 3, 1, id="equal is no improvement"),
        pytest.param(9, 0.5, [3, 2.6, 2.55, 2.51], 4, 1, id="min_delta holds for the best epoch too"),
        pytest.param(9, 0.5, [3, 2.5], 2, 1, id="a fall of exactly min_delta is no improvement"),
        pytest.param(9, 0.5, [3, 2.49], 2, 2, id="a fall of more than min_delta is one"),
        pytest.param(3, 0.5, [3, 2.75, 2.49], 3, 3, id="small falls add up against the best"),
        pytest.param(9, 0, [NAN, 5, 4], 3, 3, id="a first NaN does not win"),
        pytest.param(9, 0, [3, NAN, 2], 3, 3, id="a later NaN does not block"),
        pytest.param(2, 0, [3, NAN, NAN, 2], 3, 1, id="a later NaN is no improvement"),
        pytest.param(2, 0, [NAN, NAN, 1], 2, 0, id="nothing but NaN has no best epoch"),
        pytest.param(2, 0, [math.inf, math.inf], 2, 0, id="nothing but infinity has no best epoch"),
    ],
)
def test_the_epoch_that_stops_and_the_best_one(patience, min_delta, losses, stopped_after, best_epoch):
    stopping = EarlyStopping(min_delta=min_delta, patience=patience)
    assert after(stopping, losses) == (stopped_after, best_epoch)


def test_update_says_whether_the_epoch_is_the_new_best_and_patience_counts_down_until_one():
    stopping = EarlyStopping(min_delta=0, patience=2)
    found = [
        (stopping.update(epoch, loss), stopping.patience_left)
        for epoch, loss in enumerate((3, NAN, 1, 2, 2, 2), start=1)
    ]
    assert found == [(True, 2), (False, 1), (True, 2), (False, 1), (False, 0), (False, 0)]


@pytest.mark.parametrize("pause_after", range(7))
def test_a_pause_at_any_epoch_changes_nothing(pause_after):
    losses = [NAN, 3, 2.9995, 1, 2, NAN, 0.9]
    straight, paused = EarlyStopping(1e-3, 9), EarlyStopping(1e-3, 9)
    for epoch, loss in enumerate(losses, start=1):
        if epoch == pause_after + 1:
            paused = EarlyStopping(**json.loads(json.dumps(asdict(paused))))
        assert paused.update(epoch, loss) == straight.update(epoch, loss)
        assert paused == straight
