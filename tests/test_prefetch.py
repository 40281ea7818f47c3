"""The next item is made while one is in use, and its exceptions are raised in the consumer."""

import threading

import pytest

from cifarnet.backends import choose

choose()

from cifarnet.training.batches import prefetched  # noqa: E402  # Keras, now that its framework is chosen


def test_items_come_in_their_order():
    assert list(prefetched(range(5))) == [0, 1, 2, 3, 4]
    assert list(prefetched(())) == []


def test_the_next_item_is_made_while_one_is_in_use():
    made = [threading.Event() for _ in range(3)]

    def items():
        for event in made:
            event.set()
            yield event

    coming = prefetched(items())
    next(coming)
    assert made[1].wait(60)  # for which nobody asked yet
    assert not made[2].is_set()
    coming.close()


def test_what_goes_wrong_is_raised_where_its_item_would_be():
    def items():
        yield 1
        raise ValueError("no image")

    coming = prefetched(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no image"):
        next(coming)


def test_no_thread_is_left_when_the_items_are_not_wanted_any_more():
    before = threading.active_count()
    coming = prefetched(range(5))
    next(coming)
    assert threading.active_count() == before + 1
    coming.close()
    assert threading.active_count() == before
