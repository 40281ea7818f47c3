"""Runs that do not repeat another run."""

import pytest

from cifarnet.data import synthetic
from cifarnet.errors import RunError
from cifarnet.evaluation.reproduce import reproduce
from cifarnet.training.observer import Observer


def test_other_images_are_refused_before_anything_is_made(whole, runs):
    with pytest.raises(RunError, match="as when the run began"):
        reproduce(whole.run, synthetic(train=320, test=100, seed=1), runs, Observer())
    assert not runs.exists()


def test_a_repetition_that_is_stopped_is_no_verdict(whole, dataset, runs):
    with pytest.raises(RunError, match=r"was stopped after 0 epochs; expected 3 to compare"):
        reproduce(whole.run, dataset, runs, Observer(), stop=lambda: True)
