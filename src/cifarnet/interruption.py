"""Ctrl-C outside the training loop: remove incomplete files and exit immediately.

Python's ``KeyboardInterrupt`` is not reliable with the frameworks: it is lost in a callback, or crashes the C++ code
that called it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports it."""
MESSAGE = "interrupted\n"
CLEAR_LINE = "\r\x1b[K\x1b[?25h"
"""Terminal codes that clear the current line and show the cursor, which a progress bar hides."""

_cleanups: list[Callable[[], object]] = []
"""Cleanup callbacks of files that are being written and processes that are running, outermost first."""
_deferred: list[bool] = []
"""Whether Ctrl-C was pressed in each of the current ``defer_interrupt`` blocks, outermost first."""


@contextmanager
def cleanup_on_interrupt(cleanup: Callable[[], object]) -> Iterator[None]:
    """Call ``cleanup`` if Ctrl-C ends the process within the block. It is not called for exceptions.

    It may be called at any line of the block, even before there is anything to clean up.
    """
    _cleanups.append(cleanup)
    try:
        yield
    finally:
        _cleanups.remove(cleanup)


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Defer Ctrl-C until the block exits, for steps that cannot be cleaned up halfway."""
    _deferred.append(False)
    try:
        yield
    finally:
        if _deferred.pop():
            _exit()


def run_cleanups() -> None:
    """Call all cleanup callbacks, innermost first, and ignore their ``OSError``."""
    for cleanup in reversed(_cleanups):
        with suppress(OSError):
            cleanup()


def exit_on_interrupt() -> None:
    """Make Ctrl-C end this process with the message "interrupted" on stderr and exit code 130.

    Has no effect if Ctrl-C is ignored, as for a background job of a shell, or outside the main thread.
    """
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not is_ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _exit)


def _exit(*_: object) -> None:
    if _deferred:
        _deferred[-1] = True
        return
    # Python's streams may be in the middle of a write, and its shutdown waits for the frameworks: neither is used.
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run_cleanups()
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{CLEAR_LINE * sys.stderr.isatty()}{MESSAGE}".encode())
    finally:
        os._exit(INTERRUPTED)
