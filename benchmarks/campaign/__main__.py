"""``python -m benchmarks.campaign kills|fuzz|faults --minutes M [--seed S] [--backend B]``.

Each appends its records to ``benchmarks/results/campaigns.jsonl`` as it goes, and ends with exit code 1 when something
was unexplained. ``kills`` takes the backends in turn unless one is named, each in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from cifarnet.backends import NAMES, choose

from . import records


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=("kills", "fuzz", "faults"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the clock's by default; it is recorded")
    parser.add_argument("--backend", choices=NAMES, help="all three in turn (kills), or torch")
    parser.add_argument("--short", action="store_true", help="a minute's version, as in the suite")
    parser.add_argument("--output", type=Path, default=records.PATH)
    options = parser.parse_args()
    if options.campaign == "kills" and options.backend is None:
        sys.exit(max(_of_backend(options, backend) for backend in NAMES))
    else:
        sys.exit(_run(options))


def _of_backend(options: argparse.Namespace, backend: str) -> int:
    arguments = ["--minutes", str(options.minutes / len(NAMES)), "--seed", str(options.seed)]
    arguments += ["--backend", backend, "--output", str(options.output)]
    arguments += ["--short"] * options.short
    return subprocess.call([sys.executable, "-m", "benchmarks.campaign", "kills", *arguments])


def _run(options: argparse.Namespace) -> int:
    _confine(options.seed)
    choose(options.backend or "torch")
    if options.campaign == "kills":
        from .kills import campaign
    elif options.campaign == "fuzz":
        from .fuzz import campaign
    else:
        from .faults import campaign
    unexplained = campaign(options.minutes, options.seed, options.output.absolute(), short=options.short)
    print(f"{options.campaign}: {unexplained} unexplained; records in {options.output}")
    return 1 if unexplained else 0


def _confine(seed: int) -> None:
    """Keep to one core, before a framework counts them: networks this small only wait for a second one."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[seed % len(cores)]})


if __name__ == "__main__":
    main()
