"""Results files: one line of JSON for the machine, then one per start, warm-up, round or failure; and Markdown tables.

The stored lines call an implementation ``contender`` and a round ``turn``, as those of earlier versions do.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import RESULTS
from cifarnet.system import PACKAGES, processor, usable_cores, versions

FURTHER_PACKAGES = ("opencv-python-headless", "openvino", "pillow", "pyarrow", "ray")
"""Packages whose versions can change a figure here, beside those of a run."""
OUT = ("not installed", "failed", "refused")
"""Kinds of lines about an implementation that was not measured."""
WRONG_MEMORY = "—"
"""Shown instead of a ``peak_memory_mb``: that figure of earlier files counted the memory of the benchmark driver."""
WRONG_MEMORY_NOTE = (
    f"{WRONG_MEMORY}: measured wrongly (the memory of the benchmark's own process was counted), to be measured again."
)
Line = dict[str, Any]
Key = TypeVar("Key")


class ResultsFile:
    """A results file while it is written; every line is on disk once it is added."""

    def __init__(self, path: Path, benchmark: str, sizes: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._file = path, path.open("w")
        self._write({"benchmark": benchmark, "machine": machine(), "versions": all_versions(), "sizes": dict(sizes)})

    def add(self, kind: str, **facts: Any) -> None:
        """Write one line."""
        self._write({"kind": kind} | facts)
        shown = ("reason", "start_seconds", "seconds", "gflops", "validation_accuracy")
        found = [facts[name] for name in shown if name in facts]
        gist = ", ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in found)
        print(f"{facts.get('cell', '')} {facts['contender']}: {kind} {gist}", file=sys.stderr)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(_rounded(line)) + "\n")
        self._file.flush()


def _rounded(value: Any) -> Any:
    """Return ``value`` with six significant digits in its numbers: more is noise that only fills the file."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def command_line(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options that all benchmarks in rounds share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--toy", action="store_true", help="take seconds on tiny data: to see that it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder of {benchmark}.jsonl and its figure")
    return parser


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
    """Return the name of a ``machine()`` in tables."""
    return f"{machine['cores']} cores of {machine['processor'].replace('(R)', '')}"


def all_versions() -> dict[str, str]:
    """Return the version of Python and of every package that can change a figure."""
    return versions((*PACKAGES, *FURTHER_PACKAGES))


@dataclass(frozen=True)
class Results:
    """The content of a results file."""

    head: Line
    lines: list[Line]

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read a results file."""
        head, *lines = read_lines(path)
        return cls(head, lines)

    def cells(self) -> list[str]:
        """Return the cells in the order in which they were measured."""
        return list(dict.fromkeys(line["cell"] for line in self.lines))

    def implementations(self, cell: str) -> dict[str, Line]:
        """Return, by name, the line with the start of each implementation of ``cell``, or why it was not measured."""
        heads = [line for line in self.lines if line["cell"] == cell and line["kind"] in ("start", *OUT)]
        return {line["contender"]: line for line in heads}  # a later failure replaces a good start

    def values(self, cell: str, name: str, key: str, kind: str = "turn") -> list[Any]:
        """Return every sample of one figure; a list in a line counts number by number."""
        of_name = [line for line in self.lines if (line["cell"], line["contender"]) == (cell, name)]
        found = [line.get(key) for line in of_name if line["kind"] == kind]
        flat = [each for value in found for each in (value if isinstance(value, list) else [value])]
        return [value for value in flat if value is not None]

    def median(self, cell: str, name: str, key: str, kind: str = "turn") -> float | None:
        """Return the median of one figure's samples, None without any."""
        found = self.values(cell, name, key, kind)
        return statistics.median(found) if found else None

    def ranked(self, cell: str, figure: Callable[[str], float | None], *, least_first: bool = False) -> list[str]:
        """Return the implementations of ``cell`` by a figure, the best first and those without one last."""
        names = [name for name, line in self.implementations(cell).items() if line["group"] != "limit"]
        found = {name: value for name in names if (value := figure(name))}
        without = [name for name in names if name not in found]
        return sorted(found, key=found.__getitem__, reverse=not least_first) + without

    def out_row(self, cell: str, name: str, width: int) -> list[str] | None:
        """Return the table row of an implementation that was not measured, None for one that was."""
        line = self.implementations(cell)[name]
        if "reason" not in line:
            return None
        return [name, f"{line['kind']}: {line['reason']}".removeprefix("not installed: "), *[""] * (width - 2)]

    def peak_memory(self, cell: str, name: str) -> str:
        """Return an implementation's peak memory in MB as the tables show it."""
        found = self.values(cell, name, "peak_memory_bytes")
        wrong = self.values(cell, name, "peak_memory_mb")
        return WRONG_MEMORY if wrong else shown(max(found) / 1e6 if found else None)

    def footer(self) -> list[str]:
        """Return the paragraphs below the tables: what was measured wrongly, the machine and the versions."""
        machine, versions = self.head["machine"], self.head["versions"]
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        note = [WRONG_MEMORY_NOTE] if any("peak_memory_mb" in line for line in self.lines) else []
        return [*note, f"{cores(machine)}, {machine['system']}; {names}."]


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, *lines: Line) -> None:
    """Add lines to the end of a results file."""
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def grouped(path: Path, key: Callable[[Line], Key]) -> dict[Key, list[Line]]:
    """Return the lines of a results file by a key, in the order of the file."""
    found: dict[Key, list[Line]] = {}
    for line in read_lines(path):
        found.setdefault(key(line), []).append(line)
    return found


def mean_and_range(values: Sequence[float], form: str) -> str:
    """Return the mean, and in brackets the least and the largest unless all are written alike."""
    low, high, mean = (form.format(pick(values)) for pick in (min, max, statistics.mean))
    return mean if low == high else f"{mean} ({low.rstrip('%')} to {high.rstrip('%')})"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def table_of(columns: Mapping[str, Callable[[Any], object]], items: Iterable[Any]) -> str:
    """Return a Markdown table with one row per item; a column is a function of an item, by its title."""
    return markdown(list(columns), [[cell(item) for cell in columns.values()] for item in items])


def shown(value: float | None, form: str = ",.0f") -> str:
    """Return a figure as the tables show it, nothing for None."""
    return "" if value is None else format(value, form)


def rounded(value: float) -> str:
    """Return a difference with one digit, ``0`` where there is none."""
    return f"{value:.0e}" if value else "0"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as percent, nothing for None."""
    return "" if fraction is None else f"{100 * fraction:.{digits}f}%"
