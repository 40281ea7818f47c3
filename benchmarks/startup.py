"""Time to the first result: ``python -m benchmarks.startup [--toy]``.

Each program runs in a new process per round, with compiled bytecode, as pip installs it; the seconds are stored in
``results/startup.jsonl``.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import GOLDEN, PROJECT, RESULTS
from benchmarks.harness.records import Results, ResultsFile, command_line, markdown, shown

ROUNDS = 11
FIRST_PREDICTION = f"""
from cifarnet.runtime import Classifier
import numpy as np
Classifier({str(GOLDEN / "model.onnx")!r})(np.zeros((32, 32, 3), np.uint8))
"""
PROGRAMS = {
    "an empty program": ["-c", ""],
    "`import cifarnet`": ["-c", "import cifarnet"],
    "`cifarnet --help`": ["-m", "cifarnet", "--help"],
    "`Classifier`, from import to first prediction": ["-c", FIRST_PREDICTION],
    "`cifarnet predict` of one PNG file": [
        *("-m", "cifarnet", "predict", str(GOLDEN / "model.onnx"), str(GOLDEN / "images" / "exact.png"))
    ],
}
"""Arguments of Python, by the program's row in the table."""


def measure(results: ResultsFile, rounds: int) -> None:
    """Run every program once per round, in an order drawn anew for each; store those that fail as such."""
    rng, running = random.Random(0), dict(PROGRAMS)  # noqa: S311  # an order, no secret
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for name in PROGRAMS:
        results.add("start", contender=name, cell="", group="cifarnet")
    for number in range(rounds + 1):
        for name in rng.sample(list(running), len(running)):
            command = [sys.executable, *running[name]]
            began = time.perf_counter()
            done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - began
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
                results.add("failed", contender=name, cell="", group="cifarnet", reason=reason)
                del running[name]
            else:
                results.add("turn" if number else "warm-up", contender=name, cell="", seconds=seconds)


def table(path: Path = RESULTS / "startup.jsonl") -> str:
    """Return the stored medians."""
    results = Results.read(path)
    rows = [
        results.out_row("", name, 2) or [name, shown(results.median("", name, "seconds"), ".2f")]
        for name in results.implementations("")
    ]
    return markdown(("what is timed", "median seconds"), rows)


def main() -> None:
    given = command_line("startup", __doc__).parse_args()
    rounds = given.rounds or (1 if given.toy else ROUNDS)
    results = ResultsFile(given.results / "startup.jsonl", "startup", {"rounds": rounds})
    measure(results, rounds)
    results.close()
    print(table(results.path))


if __name__ == "__main__":
    main()
