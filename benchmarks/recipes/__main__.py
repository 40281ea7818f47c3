"""Accuracy of a recipe against time: ``python -m benchmarks.recipes NAME BACKEND SEED [SEED ...]``.

Each training has a process of its own and the machine to itself. The accuracy of each epoch is added to
``results/recipes.jsonl`` with the seconds since that process was started, or with ``--changed``, for settings that no
recipe has, to ``results/changed_recipes.jsonl``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import PROJECT
from benchmarks.harness.records import all_versions, append, machine
from benchmarks.recipes import PREFIX, published
from benchmarks.recipes.table import CHANGED, PATH, changed_table, curve_table, figure_of


def measure(name: str, backend: str, seed: int, source: str, changed: Mapping[str, Any], results: Path) -> None:
    """Train once and add what it reports to the results, if it finished."""
    head = {"machine": machine(), "versions": all_versions(), "name": name, "backend": backend, "seed": seed}
    lines = [head | ({"changed": changed} if changed else {})]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (name, backend, str(seed), folder, source, json.dumps(changed))
        command = [sys.executable, "-m", "benchmarks.recipes.trained", *arguments]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(PREFIX):
                    facts = json.loads(line.removeprefix(PREFIX)) | {"seconds": round(time.monotonic() - began, 1)}
                    print(name, backend, seed, facts, file=sys.stderr)
                    lines.append(facts)
    if process.returncode:
        sys.exit(f"error: {name} on {backend} with seed {seed} ended with code {process.returncode}")
    append(results, *lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--changed", type=json.loads, default={}, help="settings that differ from the recipe's, JSON")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    results = given.results or (CHANGED if given.changed else PATH)
    for seed in given.seeds:
        measure(given.name, given.backend, seed, given.data, given.changed, results)
    if results == CHANGED:
        print(changed_table())
    else:
        figure_of(results)
        if results == PATH:
            published.draw()
        print(curve_table(results))


if __name__ == "__main__":
    main()
