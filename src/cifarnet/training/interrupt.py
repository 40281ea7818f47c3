"""Ctrl-C and SIGTERM as a question that the loop asks after each batch."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal has asked for an end."""

    def __init__(self) -> None:
        self._seen = False

    def __bool__(self) -> bool:
        return self._seen

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; at the second give way to the default, which ends the process at once."""
        self._seen = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Yield a ``StopRequest`` that the first Ctrl-C or SIGTERM makes true; put the handlers back after."""
    request = StopRequest()
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
