"""The tables and the figure of the inference benchmark, from the raw samples."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.harness.figures import draw_bars, figure, save
from benchmarks.harness.records import Results, markdown, percent, shown
from benchmarks.peak import inference_operations, peak_rate

from .implementations import LOWER

LATENCY, THROUGHPUT, FOLDER = "one image, one core", "batches of 256, all cores", "a folder of PNG files, all cores"


def table(path: Path = RESULTS / "inference.jsonl") -> str:
    """Return one table each for latency, throughput and a folder."""
    results = Results.read(path)
    parts = [_latency(results), _rates(results, THROUGHPUT), _rates(results, FOLDER), _breakdown(results)]
    return "\n\n".join([*parts, *results.footer()])


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the smallest sample that is not below so many percent of them."""
    ordered = sorted(samples)
    return ordered[min(-(-len(ordered) * percent // 100), len(ordered)) - 1]


def _peak(results: Results, cell: str) -> float | None:
    return peak_rate(results, cell, inference_operations(results.head["sizes"]["model_config"]))


def _best_baseline(results: Results, cell: str, key: str, best: Callable[[list[float]], float]) -> float | None:
    found = [
        median
        for name, line in results.implementations(cell).items()
        if line["group"] not in ("cifarnet", "limit", LOWER) and (median := results.median(cell, name, key))
    ]
    return best(found) if found else None


def _latency(results: Results) -> str:
    titles = ["implementation", "median, µs", "p99, µs", "speed-up over the best baseline", "of peak", "ready after, s"]
    accuracies = _accuracies(results)
    titles += ["test accuracy"] * bool(accuracies)
    best, peak = _best_baseline(results, LATENCY, "microseconds", min), _peak(results, LATENCY)

    def row(name: str) -> list[str]:
        samples = results.values(LATENCY, name, "microseconds")
        median = statistics.median(samples)
        return [
            name,
            shown(median),
            shown(percentile(samples, 99)),
            shown(best / median if best else None, ".2f"),
            shown(1e6 / median / peak if peak else None, ".0%"),
            _ready(results, LATENCY, name),
            *([accuracies.get(name, "")] if accuracies else []),
        ]

    names = results.ranked(LATENCY, lambda name: results.median(LATENCY, name, "microseconds"), least_first=True)
    rows = [results.out_row(LATENCY, name, len(titles)) or row(name) for name in names]
    return f"**{LATENCY.capitalize()}**, from uint8 pixels.\n\n{markdown(titles, rows)}"


def _accuracies(results: Results) -> dict[str, str]:
    """Return the accuracy by implementation; earlier results have none."""
    found = {name: results.median(THROUGHPUT, name, "accuracy") for name in results.implementations(THROUGHPUT)}
    return {name: percent(accuracy, 2) for name, accuracy in found.items() if accuracy is not None}


def _ready(results: Results, cell: str, name: str) -> str:
    """Return the seconds from the start of its process to the end of its warm-up: import, compilation, first calls."""
    start = results.implementations(cell)[name]["start_seconds"]
    return shown(start + (results.median(cell, name, "seconds", "warm-up") or 0), ".1f")


def _rates(results: Results, cell: str) -> str:
    titles = ["implementation", "images/s", "against the best baseline", "of peak", "ready after, s", "peak memory, MB"]
    accuracies = _accuracies(results) if cell == THROUGHPUT else {}
    titles += ["test accuracy"] * bool(accuracies)
    best, peak = _best_baseline(results, cell, "rate", max), _peak(results, cell)

    def row(name: str) -> list[str]:
        rate = results.median(cell, name, "rate") or 0
        return [
            name,
            shown(rate),
            shown(rate / best if best else None, ".2f"),
            shown(rate / peak if peak else None, ".0%"),
            _ready(results, cell, name),
            results.peak_memory(cell, name),
            *([accuracies.get(name, "")] if accuracies else []),
        ]

    names = results.ranked(cell, lambda name: results.median(cell, name, "rate"))
    rows = [results.out_row(cell, name, len(titles)) or row(name) for name in names]
    return f"**{cell[0].upper()}{cell[1:]}.**\n\n{markdown(titles, rows)}"


def _breakdown(results: Results) -> str:
    """Divide cifarnet's time for a folder into its parts."""
    keys = ("seconds", "decoding_seconds", "model_seconds", "files")
    found = [results.median(FOLDER, "cifarnet, stream", key) for key in keys]
    if None in found:
        return "cifarnet's folder was not measured."
    total, decoding, model, files = (each or 0 for each in found)
    return (
        f"Of cifarnet's {total:.2f} s for {files:,.0f} files, decoding alone (Pillow, as many threads as cores) takes "
        f"{decoding:.2f} s and the model alone, one thread, {model:.2f} s; what is left of the total over decoding is "
        f"{total - decoding:.2f} s."
    )


def figure_of(path: Path) -> None:
    """Draw one panel per table."""
    results = Results.read(path)
    drawn, axes = figure(3, max(len(results.implementations(cell)) for cell in results.cells()))
    panels = (
        (LATENCY, "microseconds", "µs"),
        (THROUGHPUT, "rate", "images per second"),
        (FOLDER, "rate", "files per second"),
    )
    for each, (cell, key, unit) in zip(axes, panels, strict=True):
        bars = {
            name: (line["group"], samples)
            for name, line in results.implementations(cell).items()
            if (samples := results.values(cell, name, key))
        }
        draw_bars(each, f"inference: {cell}", unit, bars, least_first=cell == LATENCY)
        if cell == LATENCY and bars:  # the slowest takes hundreds of times as long as the fastest
            each.set_xscale("log")
            each.set_xlim(left=0.5 * min(statistics.median(samples) for _, samples in bars.values()))
    save(drawn, path.with_suffix(".png"))
