"""How far rounding carries whole trainings apart: ``python -m benchmarks.noise RUN …`` stores ``results/noise.json``.

The runs are of one recipe on the same images. Those of one seed on several backends start equal and differ by rounding;
a check for that must refuse those of several seeds on one backend.
"""

import json
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.harness.records import RESULTS
from cifarnet.reproduction import MEASURED_NOISE
from cifarnet.run import Run

PATH = RESULTS / "noise.json"


def measure(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the largest differences of each pair of backends with one seed, and of seeds on one backend."""
    first = runs[0].read_record()
    about = {name: first[name] for name in ("recipe", "versions", "machine")} | {"data": first["data"]["fingerprint"]}
    pairs: dict[str, dict[str, Any]] = {"backends": {}, "seeds": {}}
    for one, other in combinations(runs, 2):
        a, b = one.read_record(), other.read_record()
        for kind, shared in (("backends", "seed"), ("seeds", "backend")):
            if a[shared] == b[shared] == first[shared]:
                pairs[kind][f"{a['backend']} {a['seed']}, {b['backend']} {b['seed']}"] = _largest(one, other)
    return about | pairs


def _largest(one: Run, other: Run) -> dict[str, float]:
    """Return the largest difference of each column in one epoch of two histories."""
    pairs = list(zip(one.read_history(), other.read_history(), strict=False))
    return {name: max(abs(getattr(a, name) - getattr(b, name)) for a, b in pairs) for name in MEASURED_NOISE}


if __name__ == "__main__":
    text = json.dumps(measure([Run(Path(path)) for path in sys.argv[1:]]), indent=1)
    PATH.write_text(text + "\n")
    print(text)
