"""How long a person or an app waits for the first answer: ``python -m benchmarks.startup [--toy]``.

Each program runs in new processes, taken in turns; the seconds of each are stored in ``results/startup.jsonl``.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness.contest import PROJECT
from benchmarks.harness.records import RESULTS, Results, Sheet, conclude, rows, shown

PATH = RESULTS / "startup.jsonl"
GOLDEN = PROJECT / "export" / "golden"
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
"""What is timed, Python's own start included, by what the table calls it."""


def measure(sheet: Sheet, rounds: int) -> None:
    """Run every program once per round, in an order drawn anew each time; one that fails is written down as such."""
    rng, running = random.Random(0), dict(PROGRAMS)  # noqa: S311  # an order, no secret
    for name in PROGRAMS:
        sheet.add("start", contender=name, cell="", group="cifarnet")
    for _ in range(rounds):
        for name in rng.sample(list(running), len(running)):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *running[name]], cwd=PROJECT, capture_output=True, text=True, check=False
            )
            seconds = time.perf_counter() - began
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
                sheet.add("failed", contender=name, cell="", group="cifarnet", reason=reason)
                del running[name]
            else:
                sheet.add("turn", contender=name, cell="", seconds=seconds)


def table(path: Path = PATH) -> str:
    """Return the stored medians as a Markdown table."""
    results = Results.read(path)
    found = []
    for name, line in results.contenders("").items():
        seconds = shown(results.median("", name, "seconds"), ".2f")
        found.append([name, f"failed: {line['reason']}" if "reason" in line else seconds])
    return rows(("program, from its start to its end", "median seconds"), found)


def picture(source: Path, target: Path) -> None:
    """Draw one bar per program."""
    from benchmarks.harness.pictures import draw_bars, figure, save

    results = Results.read(source)
    drawn, axes = figure(1, len(PROGRAMS))
    names = [name for name in results.contenders("") if results.values("", name, "seconds")]
    bars = {name.replace("`", ""): ("cifarnet", results.values("", name, "seconds")) for name in names}
    draw_bars(axes[0], "from the start of a process to its end", "seconds", bars)
    save(drawn, target)


def main() -> None:
    """Measure, store, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="one round: to see that it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of startup.jsonl and startup.png")
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.toy else ROUNDS)
    path = given.results / "startup.jsonl"
    sheet = Sheet(path, "startup", {"rounds": rounds})
    measure(sheet, rounds)
    conclude(sheet, picture, table)


if __name__ == "__main__":
    main()
