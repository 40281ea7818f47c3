"""Ctrl-C and SIGTERM: a request to the training loop to stop; anywhere else Ctrl-C ends the process at once."""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_S = 1.0
"""Seconds within which signals count as one, because a process group and ``make`` may both deliver it."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports it."""
CLEAR_LINE = "\r\x1b[K\x1b[?25h"
"""Terminal codes that clear the current line and show the cursor, which a progress bar hides."""


class Deferral:
    """A ``defer_interrupt`` block."""

    pressed = False
    """Whether Ctrl-C was pressed since it began."""


_deferred: list[Deferral] = []
"""The current blocks, outermost first."""
_shown: list[int] = []
"""The descriptor of the real stderr, in a ``hidden_stderr`` block."""


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


def exit_on_interrupt() -> None:
    """Make Ctrl-C end this process at once with the message "interrupted" on stderr and exit code 130.

    ``KeyboardInterrupt`` is not reliable with the frameworks: it is lost in a callback, or crashes the C++ code that
    called it. Has no effect if Ctrl-C is ignored, as for a background job of a shell, or outside the main thread.
    """
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not is_ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _exit)


@contextmanager
def defer_interrupt() -> Iterator[Deferral]:
    """Defer Ctrl-C, after ``exit_on_interrupt``, until the block exits, for steps that belong together.

    Yields whether it was pressed, so that a long block can end early.
    """
    deferral = Deferral()
    _deferred.append(deferral)
    try:
        yield deferral
    finally:
        _deferred.remove(deferral)  # not always the last: threads have blocks of their own
        if deferral.pressed:
            _exit()


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hide what C++ code writes to file descriptor 2 within the block, unless it raises. Ctrl-C prints as ever."""
    with tempfile.TemporaryFile() as file:
        _shown.append(os.dup(2))
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            file.seek(0)
            os.write(_shown[-1], file.read())
            raise
        finally:
            os.dup2(_shown[-1], 2)
            os.close(_shown.pop())


def _exit(*_: object) -> None:
    if _deferred:
        _deferred[-1].pressed = True
        return
    # Python's streams may be in the middle of a write, and its shutdown waits for the frameworks: neither is used.
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(OSError, ValueError):
            stderr = _shown[-1] if _shown else sys.stderr.fileno()
            os.write(stderr, f"{CLEAR_LINE * sys.stderr.isatty()}interrupted\n".encode())
    finally:
        os._exit(INTERRUPTED)
