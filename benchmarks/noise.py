"""What rounding makes of a whole training: ``python -m benchmarks.noise RUN …`` stores ``results/noise.json``.

The runs are of one recipe on the same images. Of one seed on several backends they start equal and differ by rounding;
of several seeds on one backend they are what a check for the former has to refuse.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from cifarnet.evaluation.reproduce import MEASURED_NOISE
from cifarnet.run_folder import EpochRecord, Run

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "noise.json"


def measure(runs: Sequence[Run]) -> dict[str, Any]:
    """Return by how much two backends with one seed, and two seeds on one backend, differ: pair by pair."""
    records = [(run.read_record(), run.read_history()) for run in runs]
    about = {name: records[0][0][name] for name in ("recipe", "versions", "machine")}
    about["data"] = records[0][0]["data"]["fingerprint"]
    return about | {"backends": _pairs(records, "seed"), "seeds": _pairs(records, "backend")}


def _pairs(records: Sequence[tuple[Mapping[str, Any], list[EpochRecord]]], shared: str) -> dict[str, Any]:
    """Return the largest differences of any two of those that share the seed or backend of the first one."""
    members = [(record, rows) for record, rows in records if record[shared] == records[0][0][shared]]
    return {
        f"{one['backend']} {one['seed']}, {other['backend']} {other['seed']}": largest(ours, theirs)
        for (one, ours), (other, theirs) in combinations(members, 2)
    }


def largest(one: Sequence[EpochRecord], other: Sequence[EpochRecord]) -> dict[str, float]:
    """Return the largest difference of each column in one epoch of two histories."""
    return {
        column: max(abs(getattr(a, column) - getattr(b, column)) for a, b in zip(one, other, strict=False))
        for column in MEASURED_NOISE
    }


if __name__ == "__main__":
    found = measure([Run(Path(path)) for path in sys.argv[1:]])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
