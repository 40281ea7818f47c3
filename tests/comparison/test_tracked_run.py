"""`cifarnet train --track` shows a real training in TensorBoard and does not change it."""

import csv

import numpy as np
from tests.test_tracking import curve

from cifarnet.run.folder import Run


def test_tracking_does_not_change_the_training(story):
    code, _, stderr = story.trained
    assert code == 0, stderr
    assert "left out" not in stderr
    (repeated, *_) = sorted((story.folder / "reproductions").glob("2*"))  # without --track
    assert not (repeated / "tensorboard").exists()
    assert (repeated / "history.csv").read_bytes() == (story.run / "history.csv").read_bytes()


def test_tensorboard_shows_the_recorded_values(story):
    with (story.run / "history.csv").open(newline="") as file:
        recorded = [(int(row["epoch"]), float(row["validation_loss"])) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(curve(Run(story.run), "loss/validation"), np.float32(recorded))
    assert [step for step, _ in curve(Run(story.run), "test/accuracy")] == [len(recorded)]
    assert len(list((story.run / "tensorboard").glob("events.out.tfevents.*"))) == 1
