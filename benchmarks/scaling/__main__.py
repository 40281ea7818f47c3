"""``python -m benchmarks.scaling [--toy]``; ``KERAS_BACKEND`` chooses the framework of training and export."""

import argparse
import dataclasses
from pathlib import Path

from benchmarks.harness.records import RESULTS, Sheet, conclude

from .measuring import TOY_PLAN, Plan, measure
from .table import picture, table


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="seconds: to see that it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of scaling.jsonl and scaling.png")
    given = parser.parse_args()
    plan = TOY_PLAN if given.toy else Plan()
    plan = dataclasses.replace(plan, rounds=given.rounds or plan.rounds)
    path = given.results / "scaling.jsonl"
    sheet = Sheet(path, "scaling", dataclasses.asdict(plan))
    measure(plan, sheet)
    conclude(sheet, picture, table)


if __name__ == "__main__":
    main()
