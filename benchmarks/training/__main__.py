"""``python -m benchmarks.training [--toy] [--to-accuracy 0.7] [--batches 30 128] [--only "cifarnet on jax" ...]``."""

import argparse
import dataclasses
from pathlib import Path

import cifarnet
from benchmarks.harness.records import RESULTS, Sheet, conclude

from .contenders import CONTENDERS
from .measuring import TOY_PLAN, Plan, measure
from .table import picture, table


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="seconds, tiny data: to see that it works")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--to-accuracy", type=float, metavar="FRACTION")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in CONTENDERS])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of training.jsonl and training.png")
    given = parser.parse_args()
    plan = TOY_PLAN if given.toy else Plan()
    changes = {
        "batches": tuple(given.batches or plan.batches),
        "rounds": given.rounds or plan.rounds,
        "to_accuracy": given.to_accuracy,
        "contenders": tuple(given.only or plan.contenders),
    }
    plan = dataclasses.replace(plan, **changes)
    path = given.results / "training.jsonl"
    model = cifarnet.recipe("seed").model.to_json() | dict(plan.model)
    sheet = Sheet(path, "training", dataclasses.asdict(plan) | {"model": model})
    measure(plan, sheet)
    conclude(sheet, picture, table)


if __name__ == "__main__":
    main()
