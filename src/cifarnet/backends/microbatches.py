"""Micro-batches: how a batch is divided, and the context in which layers are called on one."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NamedTuple

from cifarnet.config import Precision


class MicroBatch(NamedTuple):
    """Consecutive images of a batch that go through the network together, as a range of positions in the batch."""

    first: int
    """Position of the first image."""
    stop: int
    """Position after the last image."""


_CURRENT: ContextVar[tuple[MicroBatch | None, Precision]] = ContextVar("current", default=(None, "float32"))


def current_micro_batch(size: Any) -> MicroBatch:
    """Return the micro-batch that the network is called on; by default a batch of ``size`` images."""
    return _CURRENT.get()[0] or MicroBatch(0, size)


def current_precision() -> Precision:
    """Return the precision of convolutions; by default float32."""
    return _CURRENT.get()[1]


@contextmanager
def calling_on(micro_batch: MicroBatch, precision: Precision = "float32") -> Iterator[None]:
    """Set the current micro-batch and the precision of convolutions within the block."""
    token = _CURRENT.set((micro_batch, precision))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def divided(size: int, parts: int | None, most: int) -> list[MicroBatch]:
    """Divide ``size`` images into ``parts`` micro-batches as equal as possible, by default of at most ``most`` images.

    There are no more micro-batches than images.
    """
    count = max(1, min(parts or math.ceil(size / most), size))
    edges = [index * size // count for index in range(count + 1)]
    return [MicroBatch(first, stop) for first, stop in pairwise(edges)]


def merge_updates(before: Any, updated: Sequence[Any]) -> Any:
    """Merge the values of a non-trainable variable after each micro-batch, all updated from ``before``.

    A moving average changes by the mean of its updates; a counter counts one step.
    """
    if "float" not in str(before.dtype):
        return updated[-1]
    return before + sum(after - before for after in updated) / len(updated)
