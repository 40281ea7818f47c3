"""How long a person or an app waits for the first answer: ``python -m benchmarks.startup``.

Each program runs in new processes, taken in turns; the seconds of each are stored in ``results/startup.json``.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cifarnet.environment import processor, usable_cores, versions

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "startup.json"
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


def seconds(arguments: list[str]) -> float:
    """Return how long one new process takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=PROJECT)
    return time.perf_counter() - began


def table() -> str:
    """Return the stored medians as a Markdown table."""
    samples = json.loads(RESULTS.read_text())["seconds"]
    lines = ["| program, from its start to its end | median seconds |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {statistics.median(each):.2f} |" for name, each in samples.items()])


def main() -> None:
    """Measure and store."""
    rounds = [{name: seconds(arguments) for name, arguments in PROGRAMS.items()} for _ in range(ROUNDS)]
    document = {
        "versions": versions(),
        "processor": processor(),
        "cores": usable_cores(),
        "seconds": {name: [each[name] for each in rounds] for name in PROGRAMS},
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
