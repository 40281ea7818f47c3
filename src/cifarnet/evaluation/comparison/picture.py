"""One picture of a comparison: the curves, the accuracies with their intervals, and who agrees with whom."""

import io
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import write_atomically

from .values import Comparison, Measured

STYLES = {
    "jax": ("#0072B2", "o", 8.0),
    "torch": ("#D55E00", "s", 5.5),
    "tensorflow": ("#009E73", "^", 3.5),
}
"""Colour, marker and its size, points.

The colours are of Okabe and Ito's palette for every kind of colour vision (2008); the markers shrink from one to the
next, so that curves that lie upon each other can all be seen.
"""
POINTS = 100
"""Points of accuracy in a whole."""


def draw(comparison: Comparison, path: Path) -> None:
    """Draw the three panels to a PNG at ``path``."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(14, 5), layout=ConstrainedLayoutEngine(wspace=0.04), dpi=150)
    curves, accuracy, agreement = figure.subplots(1, 3, width_ratios=(1.15, 1, 1.1))
    _draw_curves(curves, comparison)
    _draw_accuracy(accuracy, comparison)
    _draw_agreement(agreement, comparison)
    figure.suptitle(_title(comparison))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())


def _title(comparison: Comparison) -> str:
    plan = comparison.plan
    epochs = "the whole recipe" if plan.epochs is None else f"{plan.epochs} epoch{'s' * (plan.epochs != 1)}"
    seeds = "seed 0" if plan.seeds == 1 else f"seeds 0 to {plan.seeds - 1}"
    return f"{', '.join(plan.backends)}: recipe {plan.recipe} on {comparison.data}, {epochs}, {seeds}"


def _draw_curves(axes: Any, comparison: Comparison) -> None:
    for each in comparison.trainings:
        colour, marker, size = STYLES[each.backend]
        epochs = [row.epoch for row in each.history]
        for part, line, fill in (("train_loss", "-", colour), ("validation_loss", "--", "white")):
            values = [getattr(row, part) for row in each.history]
            axes.plot(epochs, values, line, color=colour, marker=marker, markersize=size, markerfacecolor=fill, lw=1)
    handles = [_handle(backend) for backend in comparison.plan.backends]
    handles += [_line("-", "training (as it is minimised)"), _line("--", "validation")]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    axes.set(xlabel="epoch", ylabel="loss, nats", title="Loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _handle(backend: str) -> Any:
    from matplotlib.lines import Line2D

    colour, marker, size = STYLES[backend]
    return Line2D([], [], color=colour, marker=marker, markersize=size, label=backend)


def _line(style: Any, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="0.3", linestyle=style, label=label)


def _draw_accuracy(axes: Any, comparison: Comparison) -> None:
    seeds = comparison.plan.seeds
    for each in comparison.trainings:
        at = comparison.plan.backends.index(each.backend)
        colour, marker, _ = STYLES[each.backend]
        for side, measured, fill in ((-0.2, each.validation, "white"), (0.2, each.test, colour)):
            x = at + side + 0.3 * (each.seed - (seeds - 1) / 2) / seeds
            axes.errorbar(
                x, POINTS * measured.accuracy, _reach(measured), fmt=marker, color=colour, mfc=fill, capsize=3
            )
    axes.set_xticks(range(len(comparison.plan.backends)), comparison.plan.backends)
    axes.set(xlim=(-0.6, len(comparison.plan.backends) - 0.4), ylabel="accuracy, %", title="Accuracy, 95 % intervals")
    axes.grid(axis="y", alpha=0.3)
    hollow, full = (_marker(fill, label) for fill, label in (("white", "validation"), ("0.3", "test")))
    axes.legend(handles=[hollow, full], loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _marker(fill: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="0.3", marker="o", markerfacecolor=fill, linestyle="", label=label)


def _reach(measured: Measured) -> NDArray[np.float64]:
    """Return how far the interval goes below and above the accuracy, (2, 1), points."""
    low, high = measured.accuracy - measured.interval.low, measured.interval.high - measured.accuracy
    return POINTS * np.maximum([[low], [high]], 0.0)  # at 0 and 1 rounding can leave less than nothing


def _draw_agreement(axes: Any, comparison: Comparison) -> None:
    backends = comparison.plan.backends
    shares = POINTS * agreement_matrix(comparison)
    axes.imshow(shares, cmap="cividis", vmin=min(50.0, float(shares.min())), vmax=100.0)
    for (row, column), share in np.ndenumerate(shares):
        dark = share < 50 + (100 - 50) / 2
        axes.text(column, row, f"{share:.2f} %", ha="center", va="center", color="white" if dark else "black")
    axes.axvline(len(backends) - 0.5, color="white", linewidth=6)  # what follows is no backend
    axes.set_xticks(range(len(backends) + 1), [*backends, "its own\nONNX file"])
    axes.set_yticks(range(len(backends)), backends)
    axes.set_title(f"Same class for how many of {comparison.test_images:,} test images")


def agreement_matrix(comparison: Comparison) -> NDArray[np.float64]:
    """Return the shares of equal classes, means over the seeds: a row per backend, a column per backend and one more.

    The last column is each trained model against its own exported file.
    """
    backends = comparison.plan.backends
    matrix = np.ones((len(backends), len(backends) + 1))
    for row, one in enumerate(backends):
        for column, other in enumerate(backends):
            if row != column:
                matrix[row, column] = statistics.fmean(
                    pair.agreement for pair in comparison.pairs if {pair.first, pair.second} == {one, other}
                )
        matrix[row, -1] = statistics.fmean(each.file_agreement for each in comparison.of(one))
    return matrix
