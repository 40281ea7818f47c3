"""Read JSON as dataclasses: the annotations of the fields determine the expected types and ranges."""

import json
import math
import sys
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cifarnet.config import MOST, Config

Positive = Annotated[int, (1, MOST)]
"""A whole number from 1."""
Finite = Annotated[float, (-sys.float_info.max, sys.float_info.max)]
"""A number that may be negative."""
EXPECTED: dict[Any, str] = {list: "an array", dict: "an object", str: "a string"}
RANGES: dict[Any, tuple[float, float]] = {int: (0, MOST), float: (0.0, sys.float_info.max)}
"""Ranges of numbers without a range in their annotation."""


def read(kind: Any, value: Any, name: str) -> Any:
    """Return the JSON value called ``name`` as ``kind``, the annotation of a field or a dataclass.

    Missing fields have their defaults; unknown members are ignored. Raises ``ValueError`` for a value of another type
    or out of range, and ``ConfigError`` for such a setting.
    """
    arguments = get_args(kind)
    if NoneType in arguments:
        return None if value is None else read(arguments[0], value, name)
    if get_origin(kind) is tuple:
        return tuple(read(arguments[0], each, f"{name}[{at}]") for at, each in enumerate(_of(list, value, name)))
    if get_origin(kind) is dict:
        return {key: read(arguments[1], each, f"{name}.{key}") for key, each in _of(dict, value, name).items()}
    if is_dataclass(kind):
        return _dataclass(kind, _of(dict, value, name), name)
    if kind is datetime:
        return _time(value, name)
    return value if kind is Any else _plain(kind, value, name)


def _dataclass(kind: Any, document: dict[str, Any], name: str) -> Any:
    if issubclass(kind, Config):
        return kind.from_json(document)
    kinds = get_type_hints(kind, include_extras=True)
    given = [each.name for each in fields(kind) if each.name in document or each.default is MISSING]
    return kind(**{field: read(kinds[field], document.get(field), f"{name}.{field}".lstrip(".")) for field in given})


def _plain(kind: Any, value: Any, name: str) -> Any:
    kind, (low, high) = get_args(kind) if get_origin(kind) is Annotated else (kind, RANGES.get(kind, (0, 0)))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise _unexpected(value, name, f"one of {', '.join(get_args(kind))}")
    elif kind not in RANGES:
        _of(kind, value, name)
    elif type(value) not in (kind, int) or not low <= value <= high:
        bounds = f" from {low:g}" + f" to {high:g}" * (high != RANGES[kind][1])
        raise _unexpected(value, name, f"a {'whole ' * (kind is int)}number" + bounds * (low != -high))
    return value


def _of(kind: Any, value: Any, name: str) -> Any:
    if type(value) is not kind:
        raise _unexpected(value, name, EXPECTED[kind])
    return value


def _time(value: Any, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(_of(str, value, name))
    except ValueError:
        found = datetime.min
    if found.tzinfo is None:
        raise _unexpected(value, name, "a time in ISO 8601 format with its zone")
    return found


def _unexpected(value: Any, name: str, expected: str) -> ValueError:
    return ValueError(f"{name or 'it'} is {value!r:.80}; expected {expected}")


def plain(value: Any) -> Any:
    """Return ``value`` as the JSON value that ``read`` reads, by its ``to_json`` if it has one."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return members(value) if is_dataclass(value) else value


def members(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values."""
    return {each.name: plain(getattr(value, each.name)) for each in fields(value)}


class Sparse:
    """A dataclass whose JSON omits None."""

    def to_json(self) -> dict[str, Any]:
        """Return the other fields as JSON values."""
        return {name: value for name, value in members(self).items() if value is not None}


def json_text(document: Any) -> str:
    """Return ``document`` as JSON, with ``null`` for infinities and NaN, which JSON does not have."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
