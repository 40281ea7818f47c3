"""The README's picture of a report: ``python -m benchmarks.screenshot RUN`` (after `make consumers`).

The top of the run's report.html in Chromium, light, stored as ``results/report.png``.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from cifarnet.report import PAGE
from cifarnet.run_folder import find_run

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "benchmarks" / "results" / "report.png"
WIDTH, HEIGHT, SCHEME = 1200, 1320, "light"
"""Pixels: the figures and the curves."""


def main() -> None:
    """Take the picture."""
    run = find_run(Path("runs"), sys.argv[1] if len(sys.argv) > 1 else None)
    page = run.path / PAGE
    if not page.is_file():
        sys.exit(f"error: {run} has no {PAGE}; expected one: cifarnet report {run}")
    chromium = shutil.which("chromium") or sys.exit("error: chromium is missing; expected it: run `make consumers`")
    script = PROJECT / "benchmarks" / "screenshot.mjs"
    command = ["node", script, chromium, page.absolute(), PICTURE, WIDTH, HEIGHT, SCHEME]
    subprocess.run([str(part) for part in command], check=True)
    print(PICTURE.relative_to(PROJECT), f"{PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
