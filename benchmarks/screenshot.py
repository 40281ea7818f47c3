"""The picture of a report in the README: ``python -m benchmarks.screenshot RUN`` (after `make consumers`).

The top of the run's report.html in Chromium, light, stored as ``results/report.png``.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import PROJECT, RESULTS
from cifarnet.report import PAGE
from cifarnet.run.find import find_run

WIDTH, HEIGHT, SCHEME = 1200, 1320, "light"
"""Pixels: the figures and the curves."""


def main() -> None:
    run = find_run(Path("runs"), sys.argv[1] if len(sys.argv) > 1 else None)
    page = run.path / PAGE
    if not page.is_file():
        sys.exit(f"error: {run} has no {PAGE}; expected one: cifarnet report {run}")
    chromium = shutil.which("chromium") or sys.exit("error: chromium is missing; expected it: run `make consumers`")
    script, picture = PROJECT / "benchmarks" / "screenshot.mjs", RESULTS / "report.png"
    command = ["node", script, chromium, page.absolute(), picture, WIDTH, HEIGHT, SCHEME]
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
