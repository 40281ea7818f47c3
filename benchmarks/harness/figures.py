"""Bars of medians with every raw sample as a dot."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = {"cifarnet": "#1f6f8b", "Keras": "#b5838d", "loop": "#8a9a5b", "runtime": "#8a9a5b"}
"""Colors of the bars, by group."""
Bars = Mapping[str, tuple[str, Sequence[float]]]
"""Group and samples by the implementation's name."""


def figure(panels: int, rows: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with ``panels`` above each other, each tall enough for ``rows`` bars."""
    drawn = Figure(figsize=(9, max(0.32 * rows, 3) * panels + 0.6), layout="constrained")
    FigureCanvasAgg(drawn)
    axes: Any = drawn.subplots(panels, 1, squeeze=False)
    return drawn, list(axes[:, 0])


def draw_bars(axes: Axes, title: str, unit: str, bars: Bars, *, least_first: bool = False) -> None:
    """Draw one horizontal bar per implementation, the best median on top: the largest, or the least."""
    ordered = sorted(bars.items(), key=lambda item: statistics.median(item[1][1]), reverse=least_first)
    for height, (_, (group, samples)) in enumerate(ordered):
        axes.barh(height, statistics.median(samples), color=COLORS.get(group, "#999999"), alpha=0.75)
        alpha = max(0.05, 0.5 / len(samples) ** 0.3)
        axes.plot(samples, [height] * len(samples), ".", color="black", markersize=4, alpha=alpha)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    axes.set_xlim(left=0)


def save(drawn: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    drawn.savefig(path, dpi=110)
