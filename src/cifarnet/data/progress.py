"""The progress callback of long operations. The library itself never prints."""

from typing import Protocol


class Progress(Protocol):
    """Receives the name of the current phase, the bytes done and the total bytes (None while unknown).

    It is called from the thread that does the work; an exception that it raises stops the work.
    """

    def __call__(self, phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
        """Report progress; total_bytes is None while it is unknown."""


def silent(phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
    """Report nothing."""
