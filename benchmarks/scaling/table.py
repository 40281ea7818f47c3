"""The tables of the scaling benchmark, from the raw samples."""

from pathlib import Path

import numpy as np

from benchmarks import RESULTS
from benchmarks.harness.records import Results, markdown, shown


def table(path: Path = RESULTS / "scaling.jsonl") -> str:
    """Return one table per series, and how each grows."""
    results = Results.read(path)
    footer = results.footer()[-1]  # without the note on a peak memory, which these tables do not show
    return "\n\n".join([*(_series(results, cell) for cell in results.cells()), footer])


def growth(works: list[float], seconds: list[float]) -> float | None:
    """Return the exponent p of the power law seconds ~ work**p, fitted by least squares of the logarithms."""
    return float(np.polyfit(np.log(works), np.log(seconds), 1)[0]) if len(works) > 1 else None


def _series(results: Results, cell: str) -> str:
    unit = next(iter(results.implementations(cell))).split()[1].removesuffix("s")
    titles = (cell, "seconds", f"microseconds per {unit}", "anonymous memory, MB")
    rows, works, medians, memories = [], list[float](), list[float](), list[float]()
    for name in results.implementations(cell):
        if out := results.out_row(cell, name, len(titles)):
            rows.append(out)
            continue
        works.append(_work(name))
        medians.append(results.median(cell, name, "seconds") or 0)
        memories.append(max(results.values(cell, name, "anonymous_memory_mb")))
        per_unit = 1e6 * medians[-1] / works[-1]
        rows.append([name, shown(medians[-1], ",.2f"), shown(per_unit, ",.1f"), shown(memories[-1])])
    return f"{markdown(titles, rows)}\n\n{_summary(works, medians, memories, unit)}"


def _work(name: str) -> float:
    """Return the amount of work, with which a name begins."""
    return float(name.split(maxsplit=1)[0].replace(",", ""))


def _summary(works: list[float], medians: list[float], megabytes: list[float], unit: str) -> str:
    exponent, last = growth(works, medians), growth(works[-2:], medians[-2:])
    if exponent is None or last is None:
        return "Too few sizes to tell how it grows."
    grown = 1e6 * (megabytes[-1] - megabytes[0]) / (works[-1] - works[0])
    fixed = ": below 1 where a fixed cost shows." if exponent < 0.95 else "."
    return (
        f"It grows with the power {exponent:.2f} of the work, over the last two sizes {last:.2f}{fixed} "
        f"From the first size to the last, memory grows by {grown:,.0f} bytes per {unit}."
    )
