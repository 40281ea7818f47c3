"""How far the three frameworks drift apart in the first steps of one training: ``python -m benchmarks.agreement``.

Each trains the recipe's network in a process of its own, dropout on, from the same seed; the losses of each step are
stored in ``results/agreement.json``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from cifarnet.backends import NAMES
from cifarnet.system import processor, versions

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "agreement.json"
STEPS = 30
SPANS = (1, 10, STEPS)
"""First so many steps for which the largest difference is told."""


def first_steps(backend: str, seed: int, recipe: str = "seed") -> dict[str, Any]:
    """Return digests of initial weights and dropout masks and the losses (nats) of the first steps."""
    command = [sys.executable, "-m", "benchmarks.first_steps", str(seed), str(STEPS), recipe]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{backend} failed: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table() -> str:
    """Return the stored differences as a Markdown table, one row per pair of frameworks."""
    curves: Mapping[str, Any] = json.loads(RESULTS.read_text())["curves"]
    lines = ["| frameworks | first step | first 10 steps | first 30 steps |", "|---|---|---|---|"]
    for one, other in combinations(curves, 2):
        differences = [_largest(curves[one], curves[other], span) for span in SPANS]
        cells = [f"{difference:.0e}" if difference else "0" for difference in differences]
        lines.append(f"| {one}, {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _largest(one: Mapping[str, Any], other: Mapping[str, Any], span: int) -> float:
    return max(abs(a - b) for a, b in zip(one["losses"][:span], other["losses"][:span], strict=True))


def main() -> None:
    """Measure and store."""
    curves = {backend: first_steps(backend, seed=0) for backend in NAMES}
    document = {"versions": versions(), "processor": processor(), "steps": STEPS, "curves": curves}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
