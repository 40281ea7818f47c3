"""The README's tables and the picture, from the raw samples."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.pictures import draw_bars, figure, save
from benchmarks.harness.records import RESULTS, Results, rows, shown
from benchmarks.limit import LIMIT, inference_operations

from .measuring import FOLDER, LATENCY, THROUGHPUT

PATH = RESULTS / "inference.jsonl"


def table(path: Path = PATH) -> str:
    """Return what stands in the README: latency, throughput, folder."""
    results = Results.read(path)
    parts = [_latency(results), _rates(results, THROUGHPUT), _rates(results, FOLDER), _breakdown(results)]
    return "\n\n".join([*parts, *results.memory_note(), results.machine_line()])


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the smallest sample that is not below so many percent of them."""
    ordered = sorted(samples)
    return ordered[min(-(-len(ordered) * percent // 100), len(ordered)) - 1]


def _limit(results: Results, cell: str) -> float | None:
    """Return the images per second that matrix products would allow with the same threads."""
    gflops = results.median(cell, LIMIT.name, "gflops")
    return gflops * 1e9 / inference_operations(results.head["sizes"]["model_config"]) if gflops else None


def _names(results: Results, cell: str, key: str, *, largest_first: bool) -> list[str]:
    names = [name for name, line in results.contenders(cell).items() if line["group"] != LIMIT.group]
    sign = -1 if largest_first else 1
    medians = {name: results.median(cell, name, key) for name in names}
    return sorted(names, key=lambda name: float("inf") if medians[name] is None else sign * (medians[name] or 0))


def _out(results: Results, cell: str, name: str, width: int) -> list[str] | None:
    line = results.contenders(cell)[name]
    if "reason" not in line:
        return None
    return [name, f"{line['kind']}: {line['reason']}".removeprefix("not installed: "), *[""] * (width - 2)]


def _best_other(results: Results, cell: str, key: str, choose: Callable[[list[float]], float] = min) -> float | None:
    found = [
        median
        for name, line in results.contenders(cell).items()
        if line["group"] not in ("cifarnet", LIMIT.group) and (median := results.median(cell, name, key))
    ]
    return choose(found) if found else None


def _latency(results: Results) -> str:
    titles = ("implementation", "median, µs", "p99, µs", "speed-up over the best baseline", "of peak", "ready after, s")
    best, most = _best_other(results, LATENCY, "microseconds"), _limit(results, LATENCY)
    found = []
    for name in _names(results, LATENCY, "microseconds", largest_first=False):
        if out := _out(results, LATENCY, name, len(titles)):
            found.append(out)
            continue
        samples = results.values(LATENCY, name, "microseconds")
        median = statistics.median(samples)
        found.append(
            [
                name,
                shown(median),
                shown(percentile(samples, 99)),
                shown(best / median if best else None, ".2f"),
                shown(1e6 / median / most if most else None, ".0%"),
                _ready(results, LATENCY, name),
            ]
        )
    return f"**{LATENCY.capitalize()}**, from uint8 pixels.\n\n" + rows(titles, found)


def _ready(results: Results, cell: str, name: str) -> str:
    """Return the seconds from the start of its process to the end of its first turn: import, compilation, warm-up."""
    start = results.contenders(cell)[name]["start_seconds"]
    return shown(start + (results.median(cell, name, "seconds", "warm-up") or 0), ".1f")


def _rates(results: Results, cell: str) -> str:
    titles = ("implementation", "images/s", "against the best baseline", "of peak", "ready after, s", "peak memory, MB")
    best, most = _best_other(results, cell, "rate", max), _limit(results, cell)
    found = []
    for name in _names(results, cell, "rate", largest_first=True):
        if out := _out(results, cell, name, len(titles)):
            found.append(out)
            continue
        rate = results.median(cell, name, "rate") or 0
        found.append(
            [
                name,
                shown(rate),
                shown(rate / best if best else None, ".2f"),
                shown(rate / most if most else None, ".0%"),
                _ready(results, cell, name),
                results.peak_memory(cell, name),
            ]
        )
    return f"**{cell[0].upper()}{cell[1:]}.**\n\n" + rows(titles, found)


def _breakdown(results: Results) -> str:
    """Say where the time of a folder goes for cifarnet."""
    name = "cifarnet, stream"
    keys = ("seconds", "decoding_seconds", "model_seconds", "files")
    found = [results.median(FOLDER, name, key) for key in keys]
    if None in found:
        return "cifarnet's folder was not measured."
    total, decoding, model, files = (each or 0 for each in found)
    return (
        f"Of cifarnet's {total:.2f} s for {files:,.0f} files, decoding alone (Pillow, as many threads as cores) takes "
        f"{decoding:.2f} s and the model alone, one thread, {model:.2f} s; what is left of the total over decoding is "
        f"{total - decoding:.2f} s."
    )


def picture(source: Path, target: Path) -> None:
    """Draw one panel per contest."""
    results = Results.read(source)
    drawn, axes = figure(3, max(len(results.contenders(cell)) for cell in results.cells()))
    panels = (
        (LATENCY, "microseconds", "µs"),
        (THROUGHPUT, "rate", "images per second"),
        (FOLDER, "rate", "files per second"),
    )
    for each, (cell, key, unit) in zip(axes, panels, strict=True):
        bars = {
            name: (line["group"], samples)
            for name, line in results.contenders(cell).items()
            if (samples := results.values(cell, name, key))
        }
        draw_bars(each, f"inference: {cell}", unit, bars, least_first=cell == LATENCY)
        if cell == LATENCY:  # the slowest takes hundreds of times as long as the fastest
            each.set_xscale("log")
            each.set_xlim(left=0.5 * min(statistics.median(samples) for _, samples in bars.values()))
    save(drawn, target)
