"""Hold-out and batch order depend on seed, labels and epoch, and on nothing else."""

import numpy as np
import pytest

from cifarnet.data import batch_order, evenly_chosen, hold_out
from cifarnet.dataset import Split
from cifarnet.errors import DataError


def _split(labels: np.ndarray) -> Split:
    # one image seen many times over: the pixels do not matter here
    return Split(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (len(labels), 1, 1, 3)), labels.astype(np.int32))


def test_cifar10_gives_sorted_parts_of_35000_and_15000_with_each_class_in_proportion():
    split = _split(np.random.Generator(np.random.PCG64(0)).permutation(np.repeat(np.arange(10), 5000)))
    parts = hold_out(split, 0.3, 0, 10)
    for indices, count in ((parts.train, 3500), (parts.validation, 1500)):
        np.testing.assert_array_equal(np.bincount(split.labels[indices]), [count] * 10)
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
    assert not set(parts.train) & set(parts.validation)


def test_the_choice_is_the_same_on_every_machine():
    parts = hold_out(_split(np.arange(20) % 2), 0.3, 0, 2)
    assert parts.validation.tolist() == [0, 2, 7, 9, 10, 11]
    assert hold_out(_split(np.arange(20) % 2), 0.3, 1, 2).validation.tolist() != parts.validation.tolist()


def test_each_side_keeps_an_image_of_every_class_or_the_class_is_named():
    for fraction, expected in ((0.001, 1), (0.999, 9)):
        assert len(hold_out(_split(np.repeat([0, 1], 10)), fraction, 0, 2).validation) == 2 * expected
    for labels, message in (([0, 0, 1], "class 1 .* has 1 image"), ([1, 1], "class 0 .* has 0")):
        with pytest.raises(DataError, match=message):
            hold_out(_split(np.array(labels)), 0.5, 0, 2)


def test_an_order_visits_every_image_once_and_is_the_same_on_every_machine():
    order = batch_order(1000, 3, 7)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert batch_order(10, 0, 0).tolist() == [1, 0, 8, 3, 7, 9, 4, 5, 2, 6]
    assert len({tuple(batch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize(("count", "most"), [(100, 7), (7, 7), (3, 7), (1, 5), (45_000, 5000)])
def test_a_choice_goes_from_the_first_to_the_last_at_even_distances(count, most):
    indices = 10 * np.arange(count)
    chosen = evenly_chosen(indices, most)
    assert len(chosen) == min(count, most)
    assert set(chosen) <= set(indices)
    assert chosen[0] == 0
    if most > 1 and count > 1:
        assert chosen[-1] == indices[-1]
        assert np.ptp(np.diff(chosen)) <= 10
        assert np.diff(chosen).min() > 0
