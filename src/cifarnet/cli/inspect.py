"""``cifarnet inspect``: what is in a model file."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.contract import printable
from cifarnet.errors import ModelError

from .display import out
from .options import JsonOption, filled
from .tables import GAP, WIDEST, table

TABLES = {
    "checks": "checks: the largest difference of a probability and of a logit, and classes that changed",
    "latencies": "latencies: microseconds per image in one thread, and those of float32",
}
COLUMNS = {
    "name": "check",
    "probability_difference": "probability",
    "calibrated_difference": "calibrated",
    "head_difference": "head",
    "logit_difference": "logit",
    "changed_classes": "changed",
    "float32_microseconds": "float32",
}
"""Words instead of the names in the record."""

if TYPE_CHECKING:
    from cifarnet.export.inspect import Inspection


def command(
    model: Annotated[
        Path, typer.Argument(help="File that `cifarnet export` wrote.", parser=filled("MODEL", "a model file", Path))
    ],
    as_json: JsonOption = False,
) -> None:
    """Say what a model file promises, what it is made of, how it was trained and what was proven of it."""
    from cifarnet.export.inspect import inspect_model

    found = inspect_model(model)
    try:
        told = json.dumps(asdict(found), indent=2) if as_json else _told(found)
    except RecursionError as error:
        raise ModelError(
            f"{model} has facts nested too deeply to be told; expected those of `cifarnet export`: export it anew"
        ) from error
    out(told)


def _told(found: "Inspection") -> str:
    lines = (*_file(found), "", *_layers(found), "", *_training(found), "", *_calibration(found), "", *_proof(found))
    return "\n".join(map(printable, lines))


def _row(name: str, value: object) -> str:
    return f"{name:<14}{value}"


def _file(found: "Inspection") -> list[str]:
    contract = found.contract
    height, width, _ = contract["input"]["shape"][1:]
    return [
        _row("file", f"{found.path}, {found.size_bytes:,} bytes, opset {found.opset}, contract {contract['version']}"),
        _row("sha256", found.sha256),
        _row("computed in", contract["precision"]),
        _row("input", f"{contract['input']['name']}: uint8 (batch, {height}, {width}, 3), RGB, 0-255"),
        *(
            _row("output", ", ".join([f"{name}: float32 (batch, {len(contract['labels'])})", *_meaning(each)]))
            for name, each in _entries(contract.get("outputs"))
        ),
        *([_row("answers", "the mean over an image and its mirror image")] if contract.get("flip") else ()),
        _row("classes", ", ".join(contract["labels"])),
        _row("resize", ", ".join(f"{key} {value}" for key, value in contract["resize"].items())),
    ]


def _meaning(output: object) -> list[str]:
    return [str(value) for key, value in _entries(output) if key == "meaning" and value is not None]


def _entries(value: object) -> Iterable[tuple[str, Any]]:
    """Return the entries of a part of the contract, none where the file has something else there or nothing."""
    return value.items() if isinstance(value, dict) else ()


def _layers(found: "Inspection") -> list[str]:
    head = ("layer", "operator", "output", "parameters", "multiply-adds")
    rows = [
        (each.name, each.operator, "x".join(map(str, each.shape)), f"{each.parameters:,}", f"{each.multiply_adds:,}")
        for each in found.layers
    ]
    total = ("in all, per image", "", "", f"{found.parameters:,}", f"{found.multiply_adds:,}")
    return table(head, [*rows, total], texts=3)


def _training(found: "Inspection") -> list[str]:
    return ["how it was trained", *_facts_lines(found.contract.get("training"), "nothing is told of it")]


def _calibration(found: "Inspection") -> list[str]:
    facts = dict(_entries(found.contract.get("calibration")))
    facts.pop("coverage", None)  # a table of its own, in --json and in the report
    return ["how far its probabilities can be trusted", *_facts_lines(facts, "nothing is told of it")]


def _proof(found: "Inspection") -> list[str]:
    lines = ["what was proven", *_facts_lines(found.contract.get("proof"), "nothing: it did not go through the gate")]
    if found.parity is not None:
        tables = {name: value for name, value in found.parity.items() if _is_table(value)}
        rest = {name: value for name, value in found.parity.items() if name not in tables}
        lines += ["", "what was measured then", *_facts_lines(rest, "nothing is told of it")]
        for name, entries in tables.items():
            lines += ["", TABLES.get(name, _spaced(name)), *_indented(_table(entries))]
    return lines


def _is_table(value: object) -> bool:
    """Tell whether a fact is a list of entries that have the same names and no parts of their own."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and each.keys() == value[0].keys() for each in value)
        and not any(isinstance(cell, dict | list) for each in value for cell in each.values())
    )


def _table(entries: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a line of names, without what is nothing throughout, and a line per entry."""
    names = [name for name in entries[0] if any(each[name] is not None for each in entries)]
    rows = [[_number(each[name]) for name in names] for each in entries]
    return table([COLUMNS.get(name, _spaced(name)) for name in names], rows)


def _number(value: object) -> str:
    """Return a measured difference or time with as many digits as mean something."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if type(value) is int else str(value)


def _spaced(name: str) -> str:
    """Return the name of a fact as words."""
    return name.replace("_", " ")


def _facts_lines(value: object, otherwise: str) -> list[str]:
    """Return a line per fact that is known, or one that says what is so where none is."""
    rows = list(_facts(value)) or [("", otherwise)]
    width = min(max(len(name) for name, _ in rows), WIDEST)
    return _indented(f"{name:<{width}}{GAP if name else ''}{text}".rstrip() for name, text in rows)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _facts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield name, from the outside in, and value of each fact that is known, whatever the file holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _facts(inner, f"{name} {key}".strip())
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield from _facts(each, name)
    elif value not in (None, "", []):
        text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield printable(_spaced(name)), text
