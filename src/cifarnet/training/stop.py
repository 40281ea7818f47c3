"""Ctrl-C and SIGTERM as a request that the training loop checks every few batches."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_S = 1.0
"""Seconds within which signals count as one, because a process group and ``make`` may both deliver it."""


class StopRequest:
    """Whether a signal has requested training to stop."""

    def __init__(self) -> None:
        self._first_at: float | None = None

    def __bool__(self) -> bool:
        return self._first_at is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Record the first signal; on a later one, restore the default handler and re-raise it."""
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
        elif now - self._first_at > SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Yield a ``StopRequest`` that the first Ctrl-C or SIGTERM makes true; then restore the handlers."""
    request = StopRequest()
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
