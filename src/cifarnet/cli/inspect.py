"""``cifarnet inspect``: what is in a model file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .display import out
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
    if as_json:
        out(json.dumps(asdict(found), indent=2))
        return
    for line in (*_file(found), "", *_layers(found), "", *_training(found), "", *_proof(found)):
        out(line)


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
            _row("output", f"{name}: float32 (batch, {len(contract['labels'])}), {each['meaning']}")
            for name, each in contract["outputs"].items()
        ),
        _row("classes", ", ".join(contract["labels"])),
        _row("resize", ", ".join(f"{key} {value}" for key, value in contract["resize"].items())),
    ]


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
    training = found.contract["training"]
    data, validation = training["data"], training["validation"]
    return [
        _row("trained", f"recipe {training['recipe']}, seed {training['seed']}, on {training['backend']}"),
        _row("", ", ".join(f"{name} {number}" for name, number in training["versions"].items())),
        _row("images", f"{data['name']}, {data['train_images']:,}, fingerprint {data['fingerprint'][:16]}…"),
        _row("stopped", f"after epoch {training['epochs']} ({training['why_stopped']}), best {training['best_epoch']}"),
        _row("validation", f"accuracy {100 * validation['accuracy']:.2f} %, loss {validation['loss']:.4f}"),
    ]


def _proof(found: "Inspection") -> list[str]:
    proof = found.contract["proof"]
    lines = [
        _row("proven", f"{proof['images']:,} test images, accuracy {100 * proof['accuracy']:.2f} %"),
        _row("bars", ", ".join(f"{name} {value:g}" for name, value in proof["bars"].items())),
        _row("checks", "; ".join(proof["checks"])),
    ]
    if found.parity is not None:
        worst = max(check["probability_difference"] for check in found.parity["checks"])
        lines.append(_row("measured", f"on {found.parity['backend']}: a probability differed by {worst:.2g} at most"))
    return lines
