"""Measure: ``python -m benchmarks.recipes NAME BACKEND SEED [SEED ...]``.

NAME is a recipe, or on torch `by-hand` or `by-hand-bfloat16`.

Each training has a process of its own and the machine to itself. Every epoch's accuracy is added to
``results/recipes.jsonl`` with the seconds since that process was started.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.contest import PROJECT
from benchmarks.harness.records import all_versions, append, machine
from benchmarks.recipes.curve import SAID
from benchmarks.recipes.table import PATH, picture, table

BY_HAND = {"by-hand": (), "by-hand-bfloat16": ("bfloat16",)}
"""Arguments of the programs that are not a recipe."""


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--results", type=Path, default=PATH)
    parser.add_argument("--toy", default="{}", help="see benchmarks/recipes/ours.py")
    given = parser.parse_args()
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure(given.name, given.backend, seed, Path(folder), given.toy, given.results)
    picture(given.results, given.results.with_suffix(".png"))
    print(table(given.results))


def measure(name: str, backend: str, seed: int, folder: Path, toy: str, results: Path) -> None:
    """Train once and add what it says to the results, if it came to its end."""
    lines = [{"machine": machine(), "versions": all_versions(), "name": name, "backend": backend, "seed": seed}]
    command = [sys.executable, "-m", *_program(name, backend, seed, folder, toy)]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(SAID):
                said = json.loads(line.removeprefix(SAID)) | {"seconds": round(time.monotonic() - began, 1)}
                print(name, backend, seed, said, file=sys.stderr)
                lines.append(said)
    if process.returncode:
        sys.exit(f"{name} on {backend} with seed {seed} ended with code {process.returncode}")
    append(results, *lines)


def _program(name: str, backend: str, seed: int, folder: Path, toy: str) -> Sequence[str]:
    if name in BY_HAND:
        if backend != "torch":
            sys.exit(f"{name} is a program in torch; expected that backend, not {backend}")
        return ("benchmarks.recipes.by_hand", str(seed), toy, *BY_HAND[name])
    return ("benchmarks.recipes.ours", name, backend, str(seed), str(folder), toy)


if __name__ == "__main__":
    main()
