"""A run is repeated bit for bit on the machine that trained it, whatever the backend."""

from cifarnet.evaluation.reproduce import reproduce
from cifarnet.training.observer import Observer


def test_the_record_of_a_run_is_enough_to_get_its_very_weights_again(whole, dataset, runs):
    found = reproduce(whole.run, dataset, runs, Observer())
    assert (found.outcome, found.epochs, found.weights_equal) == ("bit-equal", 3, True)
