"""Ctrl-C outside the training loop: the process ends by itself, at once, and nothing half-made stays behind.

Python's own way, an exception at whatever line the signal finds, does not get through the frameworks: it is lost in a
callback, or crashes the C++ code that called it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports it."""
LAST_WORD = "interrupted\n"
FRESH_LINE = "\r\x1b[K\x1b[?25h"
"""On a terminal: clear the line that was under way, and show the cursor that a bar has hidden."""

_half_made: list[Callable[[], object]] = []
"""What takes away each thing that is being made just now, the outermost first."""
_put_off: list[bool] = []
"""For each block that puts the end off, the innermost last: whether it was asked for within."""


@contextmanager
def taken_away_if_ended(take_away: Callable[[], object]) -> Iterator[None]:
    """Have ``take_away`` called should the process be ended within the block; an exception is the block's own to mind.

    It may be called at any line of the block, before the thing is there too.
    """
    _half_made.append(take_away)
    try:
        yield
    finally:
        _half_made.remove(take_away)


@contextmanager
def end_put_off() -> Iterator[None]:
    """Have the process ended not before the block is left: for a moment in which nothing could be taken away."""
    _put_off.append(False)
    try:
        yield
    finally:
        if _put_off.pop():
            _end()


def take_away_half_made() -> None:
    """Take away what is being made just now, the innermost first, and go on past whatever cannot be."""
    for take_away in reversed(_half_made):
        with suppress(OSError):
            take_away()


def end_at_interrupt() -> None:
    """Let Ctrl-C end this process, to its last breath, with one word on stderr and exit code 130.

    Where Ctrl-C is ignored, as in a shell's background, it stays so; and only a process' main thread can ask for it.
    """
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not is_ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    if _put_off:
        _put_off[-1] = True
        return
    # Neither Python's streams, which may be in the middle of a write, nor its shutdown, which waits for the frameworks.
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        take_away_half_made()
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{FRESH_LINE * sys.stderr.isatty()}{LAST_WORD}".encode())
    finally:
        os._exit(INTERRUPTED)
