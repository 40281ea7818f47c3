"""The first Ctrl-C or SIGTERM requests a stop, a later one ends the process."""

import signal

import pytest

from cifarnet.interrupt import SAME_REQUEST_S, stop_on_signal
from tests.processes import python


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with stop_on_signal() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
    assert signal.getsignal(number) is before


def test_the_same_wish_delivered_twice_is_one():
    with stop_on_signal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop


LATER = """
import itertools, signal
from cifarnet import interrupt
from cifarnet.interrupt import stop_on_signal
clock = itertools.count(0, 2)  # two seconds pass between any two looks
interrupt.time.monotonic = lambda: next(clock)
with stop_on_signal():
    signal.raise_signal(signal.SIGINT)
    print("still here", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("never said", flush=True)
"""


def test_a_later_signal_ends_the_process_at_once():
    assert SAME_REQUEST_S < 2
    done = python("-c", LATER)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "still here\n")
