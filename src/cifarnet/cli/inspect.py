"""``cifarnet inspect``: the contract, layers and measurements of a model file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarnet.contract import INPUT_NAME, american
from cifarnet.errors import ModelError
from cifarnet.run.exported import training_in

from .display import out_answer, table
from .options import JsonOption, ModelArgument, RunsOption
from .runs import named_model

TABLES = {
    "checks": "checks: largest absolute difference of a probability and of a logit, and changed classes",
    "latencies": "latencies: microseconds per image in one thread, compared with float32",
}
COLUMNS = {
    "name": "check",
    "probability_difference": "probability",
    "calibrated_difference": "calibrated",
    "head_difference": "softmax",
    "logit_difference": "logit",
    "changed_classes": "changed",
    "float32_microseconds": "float32",
}
"""Column titles for names in the parity file."""
WORDS = {"bars": "tolerance", "abstention": "selective"}
"""Terms for JSON keys."""

if TYPE_CHECKING:
    from cifarnet.export.inspect import Inspection


def command(name: ModelArgument = None, runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Show the layers, training and parity check of a model file.

    The default is the newest exported run or, if there is none, the bundled CIFAR-10 classifier.
    """
    from cifarnet.export.inspect import inspect_model

    model = named_model(runs, name)
    found = inspect_model(model)
    try:
        out_answer(found.to_json(), _lines(found), as_json=as_json)
    except RecursionError as error:
        raise ModelError(
            f"{model} has metadata nested too deeply to print; expected that of `cifarnet export`: export it again"
        ) from error


def _lines(found: "Inspection") -> list[str]:
    document = found.contract.document
    calibration = dict(_entries(document.get("calibration")))
    calibration.pop("coverage", None)  # a table of its own, in --json and in the report
    lines = [
        *_file(found),
        *("", *_layers(found)),
        *_section("training", training_in(found.contract), "not recorded in the file"),
        *_section("calibration", calibration, "not recorded in the file"),
        *_section("parity check", document.get("proof"), "not verified: written without the parity check"),
    ]
    if found.parity is not None:
        tables = {name: value for name, value in found.parity.items() if _is_table(value)}
        rest = {name: value for name, value in found.parity.items() if name not in tables}
        lines += _section("measured at export", rest, "nothing recorded")
        for name, entries in tables.items():
            lines += ["", TABLES.get(name, _spaced(name)), *_indented(_table(entries))]
    return lines


def _file(found: "Inspection") -> list[str]:
    contract, document = found.contract, found.contract.document
    height, width, _ = contract.image_shape
    rows = [
        ("file", f"{found.path}, {found.size_bytes:,} bytes, opset {found.opset}, contract {document['version']}"),
        ("sha256", found.sha256),
        ("computed in", contract.precision),
        ("input", f"{INPUT_NAME}: uint8 (batch, {height}, {width}, 3), RGB, 0-255"),
    ]
    for name, output in _entries(document.get("outputs")):
        meaning = dict(_entries(output)).get("meaning")
        described = f"{name}: float32 (batch, {len(contract.labels)})"
        rows.append(("output", described if meaning is None else f"{described}, {meaning}"))
    if contract.views > 1:
        translated = ", also translated by one pixel" if contract.views > 2 else ""
        rows.append(
            ("TTA", f"logits averaged over {contract.views} views: the image and its horizontal flip{translated}")
        )
    rows += [
        ("classes", ", ".join(contract.labels)),
        ("resize", ", ".join(f"{key} {value}" for key, value in document["resize"].items())),
    ]
    return [f"{name:<14}{value}" for name, value in rows]


def _entries(value: object) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _layers(found: "Inspection") -> list[str]:
    head = ("layer", "operator", "output", "parameters", "multiply-adds")
    rows = [
        (each.name, each.operator, "x".join(map(str, each.shape)), f"{each.parameters:,}", f"{each.multiply_adds:,}")
        for each in found.layers
    ]
    total = ("total per image", "", "", f"{found.parameters:,}", f"{found.multiply_adds:,}")
    return table(head, [*rows, total], texts=3)


def _section(title: str, value: object, otherwise: str) -> list[str]:
    rows = list(_leaves(value))
    return ["", title, *_indented(table(("", ""), rows, texts=2) if rows else [otherwise])]


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name} {WORDS.get(key, key)}".strip())
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield from _leaves(each, name)
    elif value not in (None, "", []):
        text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield _spaced(name), american(text)


def _is_table(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and each.keys() == value[0].keys() for each in value)
        and not any(isinstance(cell, dict | list) for each in value for cell in each.values())
    )


def _table(entries: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a table with a row per entry, without the columns that are None throughout."""
    names = [name for name in entries[0] if any(each[name] is not None for each in entries)]
    rows = [[_number(each[name]) for name in names] for each in entries]
    return table([COLUMNS.get(name, _spaced(name)) for name in names], rows)


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if type(value) is int else american(str(value))


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
