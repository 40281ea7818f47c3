"""Type checks of the arguments of public functions, so that a wrong one is a one-line error at the call."""

import functools
import inspect
import os
from collections.abc import Callable
from numbers import Integral, Number, Real
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with ``~`` expanded. Raises ``UsageError`` for the home of a user that does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{str(path)!r:.80} begins with the name of an unknown user; expected a path: correct it"
        ) from error


class Kind(NamedTuple):
    """A set of valid values of an argument."""

    holds: Callable[[Any], bool]
    """Returns whether a value is valid."""
    expected: str
    """Description of the valid values, and how to get one."""


def instance(kinds: Any, expected: str) -> Kind:
    """Return the kind of the instances of ``kinds``, a class or a tuple of them."""
    return Kind(lambda value: isinstance(value, kinds), expected)


def function(expected: str) -> Kind:
    """Return the kind of functions."""
    return Kind(lambda value: callable(value) and not isinstance(value, type), expected)


def number(least: float, expected: str, kind: Any = Real) -> Kind:
    """Return the kind of numbers (of Python or numpy) that are at least ``least``."""
    return Kind(lambda value: isinstance(value, kind) and not isinstance(value, bool) and value >= least, expected)


def whole_number(least: int, expected: str) -> Kind:
    """Return the kind of whole numbers (of Python or numpy) that are at least ``least``."""
    return number(least, expected, Integral)


# An empty text, which an unset variable leaves, would be the working directory.
PATH = Kind(lambda value: isinstance(value, str | os.PathLike) and value != "", "a path: text or a pathlib.Path")


def described(value: object) -> str:
    """Describe a value in an error: the repr of text, numbers and None, otherwise the type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{value!r:.60}" if isinstance(value, str | Number | None) else f"of type {type(value).__name__}"


def require(name: str, value: object, kind: Kind) -> None:
    """Raise ``UsageError`` unless the argument ``name`` is of ``kind``."""
    if not kind.holds(value):
        raise UsageError(f"{name} is {described(value)}; expected {kind.expected}")


def takes(**kinds: Kind) -> Callable[[Function], Function]:
    """Decorate a function to raise ``UsageError`` if one of these arguments is neither its default nor of its kind."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*positional: Any, **named: Any) -> Any:
            try:
                given = signature.bind(*positional, **named).arguments
            except TypeError:  # an argument is missing or unknown: the call raises a better error
                given = {}
            for name, value in given.items():
                if name in kinds and value is not signature.parameters[name].default:
                    require(name, value, kinds[name])
            return function(*positional, **named)

        return checked  # type: ignore[return-value]  # it has the signature of the function

    return decorate
