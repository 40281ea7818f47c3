"""The running step: the parts that a batch is divided into, and what the network is to know when called on one."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NamedTuple

from cifarnet.config import Precision


class Part(NamedTuple):
    """Consecutive images of a batch, which the network sees alone."""

    first: int
    """Position of its first image in the batch."""
    stop: int
    """Position after its last one."""


_CURRENT: ContextVar[Part | None] = ContextVar("part", default=None)
_PRECISION: ContextVar[Precision] = ContextVar("precision", default="float32")


def current_part(size: Any) -> Part:
    """Return the part that the network is being called on: unless something says otherwise, a batch of ``size``."""
    return _CURRENT.get() or Part(0, size)


def current_precision() -> Precision:
    """Return what convolutions are to multiply: float32, unless a training says otherwise."""
    return _PRECISION.get()


@contextmanager
def calling_on(part: Part, precision: Precision = "float32") -> Iterator[None]:
    """Let layers know, within, that the network is called on ``part`` and is to multiply in ``precision``."""
    tokens = _CURRENT.set(part), _PRECISION.set(precision)
    try:
        yield
    finally:
        _CURRENT.reset(tokens[0])
        _PRECISION.reset(tokens[1])


def parts_of(size: int, count: int) -> list[Part]:
    """Divide ``size`` images into at most ``count`` parts, as equal as can be."""
    count = max(1, min(count, size))
    edges = [index * size // count for index in range(count + 1)]
    return [Part(first, stop) for first, stop in pairwise(edges)]


def ghosts_of(size: int, most: int) -> list[Part]:
    """Divide ``size`` images into parts of at most ``most``, as equal as can be."""
    return parts_of(size, math.ceil(size / most))


def settled(before: Any, found: Sequence[Any]) -> Any:
    """Return what a variable that is not trained becomes, of what each part would make of ``before``.

    A moving average moves by the mean of what it would, each part counting alike, a counter as far as in any one part.
    """
    if "float" not in str(before.dtype):
        return found[-1]
    return before + sum(after - before for after in found) / len(found)


@contextmanager
def keras_defaults() -> Iterator[None]:
    """Let Keras make and run layers and optimizers, within, as it does without a ``keras.json``.

    A program that has other settings for models of its own finds them unchanged after it.
    """
    config = sys.modules["keras"].config
    before = (config.dtype_policy(), config.floatx(), config.image_data_format())
    _configure("float32", "float32", "channels_last")
    try:
        yield
    finally:
        _configure(*before)


def _configure(policy: Any, floatx: str, data_format: str) -> None:
    config = sys.modules["keras"].config
    config.set_dtype_policy(policy)
    config.set_floatx(floatx)
    config.set_image_data_format(data_format)
