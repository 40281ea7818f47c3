"""Where the lines and points of a figure lie: coordinates for the templates, which draw them as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cifarnet.evaluation import Reliability
from cifarnet.run import EpochRecord

WIDTH, HEIGHT = 360, 236
"""Of a curve, in SVG units: about as wide as a phone, so that text keeps its size there."""
LEFT, RIGHT, TOP, BOTTOM = 34, 14, 10, 34
MOST_MARKS = 60
"""Points of a line that are marked one by one."""
DOT = 2
"""Radius of such a mark."""
STEPS = (1, 2, 2.5, 5, 10)
"""Between the marks of an axis, times a power of ten."""


@dataclass(frozen=True)
class Axis:
    """A range of values, 0 to 1 and the like, along pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    """Position and text of each mark."""

    def at(self, value: float) -> float:
        """Return the position of ``value``."""
        return round(_position(value, self.low, self.high, self.start, self.end), 1)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through points, in as many pieces as gaps leave."""

    name: str
    kind: str
    """Class of its looks."""
    pieces: tuple[str, ...]
    """Points as SVG writes them."""
    marks: tuple[tuple[float, float, float], ...]
    """Points that are drawn one by one: across, down, radius."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure with two axes."""

    title: str
    told: str
    """What it shows, in words."""
    x: Axis
    y: Axis
    x_name: str
    lines: tuple[Line, ...]
    best: float | None = None
    """Position of the best epoch."""
    best_mark: tuple[float, float] | None = None


def curves(history: Sequence[EpochRecord], best_epoch: int | None) -> tuple[Plot, Plot]:
    """Return the plots of loss (nats) and accuracy (hundredths) against the epoch."""
    loss = _curve("Loss, nats", history, best_epoch, lambda row: (row.train_loss, row.validation_loss))
    accuracy = _curve(
        "Accuracy, %", history, best_epoch, lambda row: (100 * row.train_accuracy, 100 * row.validation_accuracy)
    )
    return loss, accuracy


def _curve(
    title: str,
    history: Sequence[EpochRecord],
    best_epoch: int | None,
    values: Callable[[EpochRecord], tuple[float, float]],
) -> Plot:
    pairs = [values(row) for row in history]
    finite = [value for pair in pairs for value in pair if math.isfinite(value)]
    epochs = [row.epoch for row in history]
    x = axis(min(epochs), max(epochs), LEFT, WIDTH - RIGHT, marks=6, whole=True)
    y = axis(min(finite, default=0), max(finite, default=1), HEIGHT - BOTTOM, TOP, widen=True)
    kinds = (("training (as it is minimised)", "before"), ("validation", "after"))
    columns = zip(*pairs, strict=True)
    lines = [line(name, kind, epochs, column, x, y) for (name, kind), column in zip(kinds, columns, strict=True)]
    best = pairs[best_epoch - 1][1] if best_epoch and best_epoch <= len(pairs) else None
    return Plot(
        title=title,
        told=f"{title} against the epoch: training ends at {pairs[-1][0]:.4g}, validation at {pairs[-1][1]:.4g}"
        + (f"; {best:.4g} at the best epoch, {best_epoch}" if best is not None else ""),
        x=x,
        y=y,
        x_name="epoch",
        lines=tuple(lines),
        best=x.at(best_epoch) if best is not None and best_epoch else None,
        best_mark=(x.at(best_epoch), y.at(best)) if best is not None and best_epoch else None,
    )


def reliability_plot(as_is: Reliability, calibrated: Reliability | None) -> Plot:
    """Return the plot of accuracy against confidence, both in hundredths."""
    x = axis(0, 100, LEFT, WIDTH - RIGHT)
    y = axis(0, 100, WIDTH - BOTTOM, TOP)  # a square, so that the diagonal is one
    lines = [_reliability_line("as it is", "before", as_is, x, y)]
    if calibrated is not None:
        lines.append(_reliability_line(f"at temperature {calibrated.temperature:.3g}", "after", calibrated, x, y))
    told = f"Accuracy against confidence: calibration error {100 * as_is.ece:.1f} points as it is"
    if calibrated is not None:
        told += f", {100 * calibrated.ece:.1f} at temperature {calibrated.temperature:.3g}"
    return Plot(title="Accuracy, %", told=told, x=x, y=y, x_name="confidence, %", lines=tuple(lines))


def _reliability_line(name: str, kind: str, found: Reliability, x: Axis, y: Axis) -> Line:
    points = [(each.confidence, each.accuracy) for each in found.bins]
    xs, ys = ([math.nan if value is None else 100 * value for value in side] for side in zip(*points, strict=True))
    drawn = line(name, kind, xs, ys, x, y)
    most = max(each.images for each in found.bins)
    sizes = [1.5 + 4 * math.sqrt(each.images / most) for each in found.bins if each.images]
    marks = tuple((across, down, round(size, 1)) for (across, down, _), size in zip(drawn.marks, sizes, strict=True))
    return replace(drawn, marks=marks)


def line(name: str, kind: str, xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis) -> Line:
    """Return the line through the points, interrupted where a value is not finite, but not where both are not."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for across, up in zip(xs, ys, strict=True):
        if math.isfinite(up):
            pieces[-1].append((x.at(across), y.at(up)))
        elif pieces[-1] and math.isfinite(across):
            pieces.append([])
    points = [point for piece in pieces for point in piece]
    return Line(
        name=name,
        kind=kind,
        pieces=tuple(" ".join(f"{a},{b}" for a, b in piece) for piece in pieces if piece),
        marks=tuple((a, b, DOT) for a, b in points) if len(points) <= MOST_MARKS else (),
    )


def axis(
    low: float, high: float, start: float, end: float, *, marks: int = 5, whole: bool = False, widen: bool = False
) -> Axis:
    """Return an axis with about so many ``marks`` at round values; ``widen`` lets it end at such."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _step((high - low) / marks, whole=whole)
    if widen:
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [index * step for index in range(first, last + 1)]
    ticks = tuple((round(_position(value, low, high, start, end), 1), f"{value:.6g}") for value in values)
    return Axis(low, high, start, end, ticks)


def _position(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low) * (end - start)


def _step(least: float, *, whole: bool) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    step = next(each * power for each in STEPS if each * power >= least * (1 - 1e-9))
    return max(1, round(step)) if whole else step
