"""Raw samples on disk: one line of JSON for the machine, then one per start, warm-up, turn or failure."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cifarnet.system import PACKAGES, processor, usable_cores, versions

RESULTS = Path(__file__).parents[1] / "results"
FURTHER_PACKAGES = ("ai-edge-litert", "openvino", "pillow", "tf2onnx")
"""Packages whose versions can change a figure here, beside those of a run."""
OUT = ("not installed", "failed", "refused")
"""Kinds of lines about a contender that took no part, or no longer."""
WRONG_MEMORY = "—"
"""Shown instead of a ``peak_memory_mb``: that figure of earlier files counted the memory of the benchmark driver."""
WRONG_MEMORY_NOTE = (
    f"{WRONG_MEMORY}: measured wrongly (the memory of the benchmark's own process was counted), to be measured again."
)
Line = dict[str, Any]
Key = TypeVar("Key")


class Sheet:
    """A results file under way; every line is on disk once it is added."""

    def __init__(self, path: Path, benchmark: str, sizes: Mapping[str, Any], *, log: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._file, self._log = path, path.open("w"), log
        self._write({"benchmark": benchmark, "machine": machine(), "versions": all_versions(), "sizes": dict(sizes)})

    def add(self, kind: str, **facts: Any) -> None:
        """Write one line: what happened, to whom, and what it gave."""
        self._write({"kind": kind} | facts)
        if self._log:
            print(f"{facts.get('cell', '')} {facts['contender']}: {kind} {_gist(facts)}", file=sys.stderr)

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(_rounded(line)) + "\n")
        self._file.flush()


def conclude(sheet: Sheet, picture: Callable[[Path, Path], None], table: Callable[[Path], str]) -> None:
    """End ``sheet``, draw its picture beside it, and print its table."""
    sheet.close()
    picture(sheet.path, sheet.path.with_suffix(".png"))
    print(table(sheet.path))


def machine() -> dict[str, Any]:
    """Return what of this machine a figure depends on, and how busy it was."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "memory_gb": round(pages / 1e9, 1),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def cores(machine: dict[str, Any]) -> str:
    """Return how a table names a machine, of what ``machine`` returned there."""
    return f"{machine['cores']} cores of {machine['processor'].replace('(R)', '')}"


def all_versions() -> dict[str, str]:
    """Return the version of Python and of every package that can change a figure."""
    return versions((*PACKAGES, *FURTHER_PACKAGES))


def _gist(facts: Mapping[str, Any]) -> str:
    shown = ("reason", "start_seconds", "seconds", "gflops", "validation_accuracy")
    found = [facts[name] for name in shown if name in facts]
    return ", ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in found)


def _rounded(value: Any) -> Any:
    """Return ``value`` with six significant digits in its numbers: more is noise that only fills the file."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Results:
    """What a results file holds."""

    head: Line
    lines: list[Line]

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read a results file."""
        head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        return cls(head, lines)

    def cells(self) -> list[str]:
        """Return the cells in the order in which they were measured."""
        return list(dict.fromkeys(line["cell"] for line in self.lines))

    def contenders(self, cell: str) -> dict[str, Line]:
        """Return, by name, the line that says how each contender of ``cell`` began, or why it did not."""
        heads = [line for line in self.lines if line["cell"] == cell and line["kind"] in ("start", *OUT)]
        return {line["contender"]: line for line in heads}  # a later failure replaces a good start

    def values(self, cell: str, contender: str, key: str, kind: str = "turn") -> list[float]:
        """Return every sample of one figure; one that a contender gives as a list counts number by number."""
        of_contender = [line for line in self.lines if (line["cell"], line["contender"]) == (cell, contender)]
        found = [line.get(key) for line in of_contender if line["kind"] == kind]
        flat = [each for value in found for each in (value if isinstance(value, list) else [value])]
        return [value for value in flat if value is not None]

    def median(self, cell: str, contender: str, key: str, kind: str = "turn") -> float | None:
        """Return the median of one figure's samples, None without any."""
        found = self.values(cell, contender, key, kind)
        return statistics.median(found) if found else None

    def peak_memory(self, cell: str, contender: str) -> str:
        """Return a contender's peak memory in MB as the tables show it."""
        found = self.values(cell, contender, "peak_memory_bytes")
        wrong = self.values(cell, contender, "peak_memory_mb")
        return WRONG_MEMORY if wrong else shown(max(found) / 1e6 if found else None)

    def memory_note(self) -> list[str]:
        """Return what stands under the tables, as paragraphs, where a peak memory was measured wrongly."""
        return [WRONG_MEMORY_NOTE] if any("peak_memory_mb" in line for line in self.lines) else []

    def machine_line(self) -> str:
        """Return one sentence on what was measured where."""
        machine, versions = self.head["machine"], self.head["versions"]
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        return f"{cores(machine)}, {machine['system']}; {names}."


def append(path: Path, *lines: Line) -> None:
    """Add lines to the end of a results file."""
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def grouped(path: Path, key: Callable[[Line], Key]) -> dict[Key, list[Line]]:
    """Return the lines of a results file by what ``key`` makes of them, in the order of the file."""
    found: dict[Key, list[Line]] = {}
    for line in map(json.loads, path.read_text().splitlines()):
        found.setdefault(key(line), []).append(line)
    return found


def mean_and_range(values: Sequence[float], form: str) -> str:
    """Return the mean, and in brackets the least and the largest unless all are written alike."""
    low, high, mean = (form.format(pick(values)) for pick in (min, max, statistics.mean))
    return mean if low == high else f"{mean} ({low.split()[0]} to {high.split()[0]})"


def rows(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def shown(value: float | None, form: str = ",.0f") -> str:
    """Return a figure as the tables show it, nothing where there is none."""
    return "" if value is None else format(value, form)
