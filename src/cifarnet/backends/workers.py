"""Workers: processes that train one network together, each with some micro-batches of every batch."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import WorkerError, reason

LOOPBACK = frozenset(("127.0.0.1", "localhost"))
"""Addresses of this machine alone."""
Arrays = Sequence[NDArray[Any]]
"""Arrays of four-byte numbers."""


@dataclass(frozen=True)
class Workers:
    """All workers, as one of them sees them. By default it is the only one."""

    rank: int = 0
    """Number of this worker, counted from 0."""
    count: int = 1
    """Number of workers."""
    all_gather: Callable[[NDArray[Any]], NDArray[Any]] = lambda array: array[None]
    """Maps an array of each worker, of equal shape and dtype, to all of them (count, ...), in order of rank.

    Waits for the other workers. Raises ``WorkerError`` if one ended or does not answer.
    """

    recall: Callable[[], str | None] = lambda: None
    """Returns the text that was passed to ``remember`` before the launcher restarted its workers, or None."""
    remember: Callable[[str], object] = lambda _: None
    """Stores a text for ``recall`` after a restart by the launcher."""

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that writes and prints."""
        return self.rank == 0

    def own(self, count: int) -> list[int]:
        """Return which of ``count`` items this worker computes.

        With fewer items than workers, the others repeat one, and their result is not used.
        """
        return list(range(self.rank, count, self.count)) or [self.rank % count]

    def in_order(self, own: Sequence[Arrays], count: int) -> list[list[NDArray[Any]]]:
        """Return the arrays of all ``count`` items, in order; ``own`` are those of ``own(count)``."""
        packed = [np.concatenate([np.ravel(array).view(np.float32) for array in arrays]) for arrays in own]
        rows = np.zeros((math.ceil(count / self.count), len(packed[0])), np.float32)
        rows[: len(packed)] = packed
        gathered = self.all_gather(rows).swapaxes(0, 1).reshape(-1, rows.shape[1])
        return [_unpacked(row, own[0]) for row in gathered[:count]]

    def texts(self, text: str) -> list[str]:
        """Return the text of each worker, in order of rank; this one's is ``text``."""
        encoded = np.frombuffer(text.encode(), np.uint8)
        sizes = self.all_gather(np.array([len(encoded)], np.int32))[:, 0]
        padded = np.pad(encoded, (0, int(sizes.max()) + 1 - len(encoded)))  # never empty
        return [row[:size].tobytes().decode() for row, size in zip(self.all_gather(padded), sizes, strict=True)]


ALONE = Workers()
"""The only worker."""


@contextmanager
def lost_worker(*errors: type[Exception]) -> Iterator[None]:
    """Convert the ``errors`` of a framework's collectives into a ``WorkerError``."""
    try:
        yield
    except errors as error:
        raise WorkerError(
            f"another worker ended or did not answer ({reason(error)}); expected all to continue: see why it ended, "
            "then continue with `cifarnet train --resume RUN`, with any number of workers"
        ) from error


@contextmanager
def joining(*errors: type[Exception]) -> Iterator[None]:
    """Convert the ``errors`` of joining the other workers into a ``WorkerError``."""
    try:
        yield
    except errors as error:
        raise WorkerError(
            f"this process could not join the other workers ({reason(error)}); expected the variables of one launcher, "
            "a free port, and no use of JAX before: correct that and restart all workers"
        ) from error


def within(timeout_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of ``function``, called in a thread. Raises what it raises, and ``TimeoutError``."""
    future = Future[Any]()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  # raised in the other thread
            future.set_exception(error)

    Thread(target=call, daemon=True).start()  # of no executor, which would wait for it at exit
    try:
        return future.result(timeout_s)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {timeout_s:g} s") from error


def _unpacked(row: NDArray[np.float32], like: Arrays) -> list[NDArray[Any]]:
    edges = np.cumsum([array.size for array in like])[:-1]
    return [part.view(array.dtype).reshape(array.shape) for part, array in zip(np.split(row, edges), like, strict=True)]
