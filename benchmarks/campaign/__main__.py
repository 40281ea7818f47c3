"""``python -m benchmarks.campaign kills|fuzz|faults --minutes M [--seed S] [--backend B]``.

Each appends its records to ``benchmarks/results/campaigns.jsonl`` as it goes, and ends with exit code 1 when something
was unexplained. ``kills`` runs on each backend in turn unless one is named, each in a process of its own.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from cifarnet.backends import NAMES, choose

from . import records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=("kills", "fuzz", "faults"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the clock's by default; it is recorded")
    parser.add_argument("--backend", choices=NAMES, help="by default all three in turn (kills), or torch")
    parser.add_argument("--short", action="store_true", help="about a minute, as in the test suite")
    parser.add_argument("--output", type=Path, default=records.PATH)
    given = parser.parse_args()
    if given.campaign == "kills" and given.backend is None:
        arguments = ["kills", "--minutes", str(given.minutes / len(NAMES)), "--seed", str(given.seed)]
        arguments += ["--output", str(given.output), *["--short"] * given.short]
        command = [sys.executable, "-m", "benchmarks.campaign", *arguments, "--backend"]
        sys.exit(max(subprocess.call([*command, backend]) for backend in NAMES))
    if hasattr(
        os, "sched_setaffinity"
    ):  # before a framework counts the cores: networks so small only wait for a second
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[given.seed % len(cores)]})
    choose(given.backend or "torch")
    module = importlib.import_module(f"benchmarks.campaign.{given.campaign}")
    unexplained = module.campaign(given.minutes, given.seed, given.output.absolute(), short=given.short)
    print(f"{given.campaign}: {unexplained} unexplained; records in {given.output}")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
