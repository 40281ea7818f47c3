"""The README's tables and the picture, from the raw samples."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.pictures import draw_bars, figure, save
from benchmarks.harness.records import RESULTS, Results, rows, shown
from benchmarks.limit import LIMIT, training_operations

from .measuring import end_to_end, fastest

PATH = RESULTS / "training.jsonl"
TITLES = (
    *("implementation", "images/s, training only", "images/s, end to end", "of peak", "against the best baseline"),
    *("validation accuracy", "warm-up, s", "peak memory, MB"),
)


def table(path: Path = PATH) -> str:
    """Return what stands in the README: one table per batch size, what follows from it, and the time to accuracy."""
    results = Results.read(path)
    parts = [_cell_text(results, cell) for cell in results.cells() if cell.startswith("batch ")]
    parts += [_race_text(results, cell) for cell in results.cells() if cell.startswith("to ")]
    return "\n\n".join([*parts, *results.memory_note(), results.machine_line()])


def limit(results: Results, cell: str) -> float | None:
    """Return the images per second that the machine's matrix products would allow."""
    gflops = results.median(cell, LIMIT.name, "gflops")
    return gflops * 1e9 / training_operations(results.head["sizes"]["model"]) if gflops else None


def _cell_text(results: Results, cell: str) -> str:
    most, names = limit(results, cell), _by_rate(results, cell)
    gflops = results.median(cell, LIMIT.name, "gflops")
    said = f"**{cell.capitalize()}.** "
    if gflops and most:
        mflop = training_operations(results.head["sizes"]["model"]) / 1e6
        said += f"Matrix products run at {gflops:,.0f} GFLOP/s, an image takes {mflop:,.1f} MFLOP: "
        said += f"the peak is {most:,.0f} images per second."
    return "\n\n".join(
        [said, rows(TITLES, [_row(results, cell, name, most) for name in names]), _verdict(results, cell)]
    )


def _by_rate(results: Results, cell: str) -> list[str]:
    names = [name for name, line in results.contenders(cell).items() if line["group"] != LIMIT.group]
    return sorted(names, key=lambda name: -(end_to_end(results, cell, name) or 0))


def _row(results: Results, cell: str, name: str, most: float | None) -> Sequence[str]:
    line = results.contenders(cell)[name]
    if "reason" in line:
        return [name, f"{line['kind']}: {line['reason']}".removeprefix("not installed: "), *[""] * (len(TITLES) - 2)]
    rate, alone = end_to_end(results, cell, name), results.median(cell, name, "training_rate")
    of_limit = (alone or rate or 0) / most if most else None  # end to end where there is no other: the lower one
    other = _fastest_other(results, cell)
    accuracies = results.values(cell, name, "validation_accuracy")
    return [
        name,
        shown(alone),
        shown(rate),
        shown(of_limit, ".0%"),
        shown(rate / other if rate and other else None, ".2f"),
        shown(accuracies[-1] if accuracies else None, ".1%"),
        shown(results.median(cell, name, "seconds", "warm-up"), ".1f"),
        results.peak_memory(cell, name),
    ]


def _fastest_other(results: Results, cell: str, framework: str | None = None, group: str | None = None) -> float | None:
    rates = [
        end_to_end(results, cell, name) or 0
        for name, line in results.contenders(cell).items()
        if line["group"] in ((group,) if group else ("Keras", "loop")) and framework in (None, line["framework"])
    ]
    return max(rates, default=0) or None


def _verdict(results: Results, cell: str) -> str:
    """Say how cifarnet stands to the loops by hand of the same framework, and its best to the best of all others."""
    said, ours = [], []
    for name, line in results.contenders(cell).items():
        rate = end_to_end(results, cell, name)
        if line["group"] == "cifarnet" and rate:
            ours.append(rate)
            loop = _fastest_other(results, cell, line["framework"], "loop")
            said += [f"{rate / loop:.2f} on {line['framework']}"] if loop else []
    other = _fastest_other(results, cell)
    if not (said and other):
        return "Nothing to compare."
    return (
        f"Speed-up, end to end: cifarnet over the fastest hand-written loop of the same framework {', '.join(said)}; "
        f"its fastest backend over the fastest baseline {max(ours) / other:.2f}."
    )


def _race_text(results: Results, cell: str) -> str:
    """Return the seconds to the accuracy, compilation included, all images of CIFAR-10."""
    goal = float(cell.removeprefix("to ").rstrip("%")) / 100
    found = []
    for name in results.contenders(cell):
        seconds, reached = results.values(cell, name, "seconds"), results.values(cell, name, "validation_accuracy")
        done = bool(reached) and reached[-1] >= goal
        epochs = f"{len(seconds)}" if done else "not reached"
        found.append([name, shown(sum(seconds) if done else None, ",.0f"), epochs])
    ordered = sorted(found, key=lambda row: float(row[1].replace(",", "") or "inf"))
    return f"**Seconds to {goal:.0%} validation accuracy**, compilation included.\n\n" + rows(
        ("implementation", "seconds", "epochs"), ordered
    )


def picture(source: Path, target: Path) -> None:
    """Draw the images per second end to end, one panel per batch size."""
    results = Results.read(source)
    cells = [cell for cell in results.cells() if cell.startswith("batch ")]
    drawn, axes = figure(len(cells), max(len(results.contenders(cell)) for cell in cells))
    for each, cell in zip(axes, cells, strict=True):
        bars = {}
        for name in fastest(results, cell, others=100):
            images = results.median(cell, name, "images") or 0
            rates = [images / seconds for seconds in results.values(cell, name, "seconds")]
            bars[name] = (results.contenders(cell)[name]["group"], rates)
        draw_bars(each, f"training, {cell}, end to end", "images per second", bars)
        if most := limit(results, cell):
            each.axvline(most, color="black", linestyle=":")
    save(drawn, target)
