"""Measure: ``python -m benchmarks.recipes NAME BACKEND SEED [SEED ...]``.

NAME is a recipe, or on torch `by-hand` or `by-hand-bfloat16`.

Each training has a process of its own and the machine to itself. Every epoch's accuracy is added to
``results/recipes.jsonl`` with the seconds since that process was started, or with ``--changed``, of a recipe that is no
longer or never was, to ``results/changed_recipes.jsonl``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.contest import PROJECT
from benchmarks.harness.records import all_versions, append, machine
from benchmarks.recipes.curve import SAID
from benchmarks.recipes.table import CHANGED, PATH, changed_table, picture, table

BY_HAND = {"by-hand": (), "by-hand-bfloat16": ("bfloat16",)}
"""Arguments of the programs that are not a recipe."""


@dataclass(frozen=True)
class Task:
    """One training."""

    name: str
    backend: str
    seed: int
    source: str = "cifar10"
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are not the recipe's."""

    def program(self, folder: Path) -> Sequence[str]:
        """Return its module and arguments; ``folder`` is where a run may lie."""
        what = (self.source, json.dumps(self.changed))
        if self.name not in BY_HAND:
            ours = (self.name, self.backend, str(self.seed), str(folder))
            return ("benchmarks.recipes.ours", *ours, *what)
        if self.backend != "torch":
            sys.exit(f"{self.name} is a program in torch; expected that backend, not {self.backend}")
        return ("benchmarks.recipes.by_hand", str(self.seed), *what, *BY_HAND[self.name])


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--changed", type=json.loads, default={}, help="settings that are not the recipe's, JSON")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    results = given.results or (CHANGED if given.changed else PATH)
    for seed in given.seeds:
        measure(Task(given.name, given.backend, seed, given.data, given.changed), results)
    if results == CHANGED:
        print(changed_table())
    else:
        picture(results, results.with_suffix(".png"))
        print(table(results))


def measure(task: Task, results: Path) -> None:
    """Train once and add what it says to the results, if it came to its end."""
    head = {"machine": machine(), "versions": all_versions()}
    head |= {"name": task.name, "backend": task.backend, "seed": task.seed}
    lines = [head | ({"changed": task.changed} if task.changed else {})]
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", *task.program(Path(folder))], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(SAID):
                said = json.loads(line.removeprefix(SAID)) | {"seconds": round(time.monotonic() - began, 1)}
                print(task.name, task.backend, task.seed, said, file=sys.stderr)
                lines.append(said)
    if process.returncode:
        sys.exit(f"{task.name} on {task.backend} with seed {task.seed} ended with code {process.returncode}")
    append(results, *lines)


if __name__ == "__main__":
    main()
