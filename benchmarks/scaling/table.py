"""The README's tables and the picture, from the raw samples."""

from pathlib import Path

import numpy as np

from benchmarks.harness.pictures import draw_growth, figure, save
from benchmarks.harness.records import RESULTS, Results, rows, shown

PATH = RESULTS / "scaling.jsonl"


def table(path: Path = PATH) -> str:
    """Return what stands in the README: one table per series, and how each grows."""
    results = Results.read(path)
    return "\n\n".join([*(_series(results, cell) for cell in results.cells()), results.machine_line()])


def growth(works: list[float], seconds: list[float]) -> float | None:
    """Return the exponent p of the power law seconds ~ work**p, fitted by least squares of the logarithms."""
    if len(works) < 2:
        return None
    return float(np.polyfit(np.log(works), np.log(seconds), 1)[0])


def _series(results: Results, cell: str) -> str:
    titles = (cell, "seconds", "microseconds per unit", "memory beside mapped files, MB")
    found, works, medians, memories = [], list[float](), list[float](), list[float]()
    for name, line in results.contenders(cell).items():
        if "reason" in line:
            found.append([name, f"{line['kind']}: {line['reason']}", "", ""])
            continue
        work, seconds = _work(name), results.median(cell, name, "seconds") or 0
        memory = results.values(cell, name, "anonymous_memory_mb")
        works, medians, memories = [*works, work], [*medians, seconds], [*memories, max(memory)]
        found.append([name, shown(seconds, ",.2f"), shown(1e6 * seconds / work, ",.1f"), shown(max(memory))])
    return f"{rows(titles, found)}\n\n{_verdict(works, medians)}{_memory(works, memories)}"


def _work(name: str) -> float:
    """Return the amount of work that a contender is named after."""
    return float(name.split(maxsplit=1)[0].replace(",", ""))


def _verdict(works: list[float], medians: list[float]) -> str:
    exponent, last = growth(works, medians), growth(works[-2:], medians[-2:])
    if exponent is None or last is None:
        return "Too few sizes to tell how it grows."
    text = f"It grows with the power {exponent:.2f} of the work, over the last two sizes {last:.2f}"
    return text + (": below 1 where a fixed cost shows." if exponent < 0.95 else ".")


def _memory(works: list[float], megabytes: list[float]) -> str:
    if len(works) < 2:
        return ""
    grown = 1e6 * (megabytes[-1] - megabytes[0]) / (works[-1] - works[0])
    return f" From the first size to the last, memory grows by {grown:,.0f} bytes per unit."


def picture(source: Path, target: Path) -> None:
    """Draw one panel per series."""
    results = Results.read(source)
    cells = results.cells()
    drawn, axes = figure(len(cells), 10)
    for each, cell in zip(axes, cells, strict=True):
        names = [name for name, line in results.contenders(cell).items() if "reason" not in line]
        samples = {_work(name): results.values(cell, name, "seconds") for name in names}
        if samples:
            draw_growth(
                each, f"seconds of an {cell}" if cell.startswith("e") else f"seconds of a {cell}", _unit(names), samples
            )
    save(drawn, target)


def _unit(names: list[str]) -> str:
    return names[0].partition(" ")[2]
