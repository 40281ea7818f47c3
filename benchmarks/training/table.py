"""The tables and the figure of the training benchmark, from the raw samples."""

from pathlib import Path

from benchmarks import RESULTS
from benchmarks.harness.figures import draw_bars, figure, save
from benchmarks.harness.records import Results, markdown, shown
from benchmarks.peak import PEAK, peak_rate, training_operations

TITLES = (
    *("implementation", "images/s, training only", "images/s, end to end", "of peak", "against the best baseline"),
    *("validation accuracy", "warm-up, s", "peak memory, MB"),
)
BASELINES = ("Keras", "loop")


def table(path: Path = RESULTS / "training.jsonl") -> str:
    """Return one table per batch size with the speed-ups, and the time to an accuracy."""
    results = Results.read(path)
    parts = [_batch_text(results, cell) for cell in results.cells() if cell.startswith("batch ")]
    parts += [_time_text(results, cell) for cell in results.cells() if cell.startswith("to ")]
    return "\n\n".join([*parts, *results.footer()])


def end_to_end(results: Results, cell: str, name: str) -> float | None:
    """Return the median of the images per second over whole rounds: order, training, validation, checkpoint."""
    seconds, images = (results.median(cell, name, key) for key in ("seconds", "images"))
    return images / seconds if images and seconds else None


def fastest(results: Results, cell: str, baselines: int = 2) -> list[str]:
    """Return every backend of cifarnet and the fastest baselines, by images per second end to end."""
    names = results.ranked(cell, lambda name: end_to_end(results, cell, name))
    groups = {name: results.implementations(cell)[name]["group"] for name in names if end_to_end(results, cell, name)}
    ours = [name for name, group in groups.items() if group == "cifarnet"]
    return ours + [name for name, group in groups.items() if group in BASELINES][:baselines]


def _peak(results: Results, cell: str) -> float | None:
    return peak_rate(results, cell, training_operations(results.head["sizes"]["model"]))


def _batch_text(results: Results, cell: str) -> str:
    peak, gflops = _peak(results, cell), results.median(cell, PEAK.name, "gflops")
    text = f"**{cell.capitalize()}.** "
    if peak:
        mflop = training_operations(results.head["sizes"]["model"]) / 1e6
        text += f"Matrix products run at {gflops:,.0f} GFLOP/s, an image takes {mflop:,.1f} MFLOP: "
        text += f"the peak is {peak:,.0f} images per second."
    names = results.ranked(cell, lambda name: end_to_end(results, cell, name))
    rows = [results.out_row(cell, name, len(TITLES)) or _row(results, cell, name, peak) for name in names]
    return "\n\n".join([text, markdown(TITLES, rows), _speed_up(results, cell)])


def _row(results: Results, cell: str, name: str, peak: float | None) -> list[str]:
    rate, alone = end_to_end(results, cell, name), results.median(cell, name, "training_rate")
    of_peak = (alone or rate or 0) / peak if peak else None  # end to end where there is no other: the lower one
    baseline = _best(results, cell, BASELINES)
    accuracies = results.values(cell, name, "validation_accuracy")
    return [
        name,
        shown(alone),
        shown(rate),
        shown(of_peak, ".0%"),
        shown(rate / baseline if rate and baseline else None, ".2f"),
        shown(accuracies[-1] if accuracies else None, ".1%"),
        shown(results.median(cell, name, "seconds", "warm-up"), ".1f"),
        results.peak_memory(cell, name),
    ]


def _best(results: Results, cell: str, groups: tuple[str, ...], framework: str | None = None) -> float | None:
    rates = [
        end_to_end(results, cell, name) or 0
        for name, line in results.implementations(cell).items()
        if line["group"] in groups and framework in (None, line["framework"])
    ]
    return max(rates, default=0) or None


def _speed_up(results: Results, cell: str) -> str:
    """Compare each backend of cifarnet with the loops of its framework, and the best with the best baseline."""
    texts = []
    for line in results.implementations(cell).values():
        ours = _best(results, cell, ("cifarnet",), line["framework"])
        loop = _best(results, cell, ("loop",), line["framework"])
        if line["group"] == "cifarnet" and ours and loop:
            texts.append(f"{ours / loop:.2f} on {line['framework']}")
    ours, baseline = (_best(results, cell, groups) for groups in (("cifarnet",), BASELINES))
    if not (texts and ours and baseline):
        return "Nothing to compare."
    return (
        f"Speed-up, end to end: cifarnet over the fastest hand-written loop of the same framework {', '.join(texts)}; "
        f"its fastest backend over the fastest baseline {ours / baseline:.2f}."
    )


def _time_text(results: Results, cell: str) -> str:
    """Return the seconds to an accuracy, compilation included, all images of CIFAR-10."""
    goal = float(cell.removeprefix("to ").rstrip("%")) / 100

    def seconds_to(name: str) -> float | None:
        reached = results.values(cell, name, "validation_accuracy")
        return sum(results.values(cell, name, "seconds")) if reached and reached[-1] >= goal else None

    rows = []
    for name in results.ranked(cell, seconds_to, least_first=True):
        seconds, epochs = seconds_to(name), len(results.values(cell, name, "seconds"))
        rows.append([name, shown(seconds), epochs if seconds else "not reached"])
    titles = ("implementation", "seconds", "epochs")
    return f"**Seconds to {goal:.0%} validation accuracy**, compilation included.\n\n{markdown(titles, rows)}"


def figure_of(path: Path) -> None:
    """Draw the images per second end to end, one panel per batch size."""
    results = Results.read(path)
    cells = [cell for cell in results.cells() if cell.startswith("batch ")]
    drawn, axes = figure(len(cells), max(len(results.implementations(cell)) for cell in cells))
    for each, cell in zip(axes, cells, strict=True):
        bars = {}
        for name in fastest(results, cell, baselines=100):
            images = results.median(cell, name, "images") or 0
            rates = [images / seconds for seconds in results.values(cell, name, "seconds")]
            bars[name] = (results.implementations(cell)[name]["group"], rates)
        draw_bars(each, f"training, {cell}, end to end", "images per second", bars)
        if peak := _peak(results, cell):
            each.axvline(peak, color="black", linestyle=":")
    save(drawn, path.with_suffix(".png"))
