"""``python -m benchmarks.inference [--run runs/latest] [--toy] [--only NAME ...]``."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.harness.contest import PROJECT
from benchmarks.harness.records import RESULTS, Sheet, conclude
from benchmarks.networks import beyond_stock

from .contenders import FROM_ARRAYS, FROM_FILES
from .measuring import TOY_PLAN, Plan, measure
from .table import picture, table

GOLDEN = PROJECT / "export" / "golden" / "model.onnx"


def require_stock(model: Path, contract: Mapping[str, Any]) -> None:
    """End with one line where the other contenders cannot build the network of the file ``model``."""
    found = beyond_stock(contract["model"]) | ({"flip": True} if contract.get("flip") else {})
    if found:
        told = ", ".join(f"{name} {value}" for name, value in found.items())
        sys.exit(
            f"error: {model} has {told}, which the other contenders cannot build; expected a network such as that of "
            "the recipe `seed`: pass its run by --run (make bench RUN=...)"
        )


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=PROJECT / "runs" / "latest", help="folder with a model.onnx")
    parser.add_argument("--toy", action="store_true", help="seconds, the golden model: to see that it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[c.name for c in (*FROM_ARRAYS, *FROM_FILES)])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of inference.jsonl and inference.png")
    given = parser.parse_args()
    model = (GOLDEN if given.toy else given.run / "model.onnx").absolute()
    if not model.exists():
        parser.error(f"{model} is missing; expected an exported run: cifarnet export --onnx, or give --run")
    plan = TOY_PLAN if given.toy else Plan()
    if given.rounds:
        plan = dataclasses.replace(plan, rounds=given.rounds, folder_rounds=given.rounds)
    if given.only:
        plan = dataclasses.replace(plan, arrays=tuple(given.only), folders=tuple(given.only))
    path = given.results / "inference.jsonl"
    contract = cifarnet.Classifier(model).contract
    require_stock(model, contract)
    sheet = Sheet(path, "inference", dataclasses.asdict(plan) | {"model_config": contract["model"]})
    measure(plan, model, sheet)
    conclude(sheet, picture, table)


if __name__ == "__main__":
    main()
