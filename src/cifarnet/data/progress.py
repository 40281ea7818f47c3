"""How long work tells its caller where it is: the library itself never prints."""

from typing import Protocol


class Progress(Protocol):
    """Receives the name of the phase, the bytes done and the bytes in all (None while unknown).

    Called from the thread that does the work; what it raises stops the work.
    """

    def __call__(self, phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
        """Take note; total_bytes is None while it is unknown."""


def silent(phase: str, done_bytes: int, total_bytes: int | None, /) -> None:
    """Report nothing."""
