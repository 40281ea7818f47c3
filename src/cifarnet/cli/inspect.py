"""``cifarnet inspect``: what is in a model file."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.errors import ModelError

from .display import out, printable
from .options import JsonOption

if TYPE_CHECKING:
    from cifarnet.inspection import Inspection


def command(
    model: Annotated[Path, typer.Argument(help="File that `cifarnet export` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a model file promises, what it is made of, how it was trained and what was proven of it."""
    from cifarnet.inspection import inspect_model

    found = inspect_model(model)
    try:
        told = json.dumps(asdict(found), indent=2) if as_json else _told(found)
    except RecursionError as error:
        raise ModelError(
            f"{model} has facts nested too deeply to be told; expected those of `cifarnet export`: export it anew"
        ) from error
    out(told)


def _told(found: "Inspection") -> str:
    lines = (*_file(found), "", *_layers(found), "", *_training(found), "", *_proof(found))
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
            _row("output", f"{name}: float32 (batch, {len(contract['labels'])}), {dict(_entries(each)).get('meaning')}")
            for name, each in _entries(contract.get("outputs"))
        ),
        _row("classes", ", ".join(contract["labels"])),
        _row("resize", ", ".join(f"{key} {value}" for key, value in contract["resize"].items())),
    ]


def _entries(value: object) -> Iterable[tuple[str, Any]]:
    """Return the entries of a part of the contract, none where the file has something else there or nothing."""
    return value.items() if isinstance(value, dict) else ()


def _layers(found: "Inspection") -> list[str]:
    rows = [
        f"{each.name:<24}{each.operator:<18}{'x'.join(map(str, each.shape)):<12}{each.parameters:>12,}"
        f"{each.multiply_adds:>14,}"
        for each in found.layers
    ]
    head = f"{'layer':<24}{'operator':<18}{'output':<12}{'parameters':>12}{'multiply-adds':>14}"
    total = f"{'in all, per image':<54}{found.parameters:>12,}{found.multiply_adds:>14,}"
    return [head, *rows, total]


def _training(found: "Inspection") -> list[str]:
    return ["how it was trained", *_facts(found.contract.get("training") or "nothing is told of it")]


def _proof(found: "Inspection") -> list[str]:
    lines = ["what was proven", *_facts(found.contract.get("proof") or "nothing: it did not go through the gate")]
    if found.parity is not None:
        lines += ["what was measured then", *_facts(found.parity)]
    return lines


def _facts(value: object, name: str = "") -> Iterator[str]:
    """Yield a line per fact, whatever the file holds: a name from the outside in, and its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _facts(inner, f"{name} {key}".strip())
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield from _facts(each, name)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield f"  {name:<40}{text}".rstrip() if name else f"  {text}"
