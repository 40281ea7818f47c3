"""Figure of a comparison: learning curves, accuracies with intervals, and agreement of the predictions."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import write_atomically
from cifarnet.errors import counted
from cifarnet.report.charts import new_figure, number_cells, png

from .compare import Comparison, ScoreWithInterval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {
    "jax": ("#0072B2", "o", 8.0),
    "torch": ("#D55E00", "s", 5.5),
    "tensorflow": ("#009E73", "^", 3.5),
}
"""Color, marker and marker size in points.

The colors are distinguishable with color blindness (Okabe and Ito 2008); markers of different sizes show curves that
coincide.
"""


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the figure to a PNG at ``path``."""
    figure = new_figure(14, 5)
    curves, accuracy, agreement = figure.subplots(1, 3, width_ratios=(1.15, 1, 1.1))
    _draw_curves(curves, comparison)
    _draw_accuracy(accuracy, comparison)
    _draw_agreement(agreement, comparison)
    figure.suptitle(_title(comparison))
    write_atomically(path, png(figure))


def _title(comparison: Comparison) -> str:
    plan = comparison.plan
    epochs = "the whole recipe" if plan.epochs is None else counted(plan.epochs, "epoch")
    seeds = "seed 0" if plan.seeds == 1 else f"seeds 0 to {plan.seeds - 1}"
    return f"{', '.join(plan.backends)}: recipe {plan.recipe} on {comparison.data}, {epochs}, {seeds}"


def _draw_curves(axes: "Axes", comparison: Comparison) -> None:
    for each in comparison.trainings:
        color, marker, size = STYLES[each.backend]
        epochs = [row.epoch for row in each.history]
        for split, line, fill in (("train", "-", color), ("validation", "--", "white")):
            losses = [getattr(row, f"{split}_loss") for row in each.history]
            label = each.backend if (split, each.seed) == ("train", 0) else None
            axes.plot(
                epochs, losses, line, color=color, marker=marker, ms=size, markerfacecolor=fill, lw=1, label=label
            )
    axes.legend(frameon=False)
    axes.set(xlabel="epoch", ylabel="loss, nats", title="Loss: training solid, validation dashed")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)


def _draw_accuracy(axes: "Axes", comparison: Comparison) -> None:
    seeds, backends = comparison.plan.seeds, comparison.plan.backends
    for each in comparison.trainings:
        color, marker, _ = STYLES[each.backend]
        for side, score, fill in ((-0.2, each.validation, "white"), (0.2, each.test, color)):
            x = backends.index(each.backend) + side + 0.3 * (each.seed - (seeds - 1) / 2) / seeds
            axes.errorbar(x, 100 * score.accuracy, _margins(score), fmt=marker, color=color, mfc=fill, capsize=3)
    axes.set_xticks(range(len(backends)), backends)
    axes.set(xlim=(-0.6, len(backends) - 0.4), ylabel="accuracy, %")
    axes.set_title("Accuracy, 95% intervals: validation hollow, test filled")
    axes.grid(axis="y", alpha=0.3)


def _margins(score: ScoreWithInterval) -> NDArray[np.float64]:
    """Return the distances of the accuracy from the ends of its interval, (2, 1), in percentage points."""
    low, high = score.accuracy - score.interval.low, score.interval.high - score.accuracy
    return 100 * np.maximum([[low], [high]], 0.0)  # at 0 and 1 rounding may make them negative


def _draw_agreement(axes: "Axes", comparison: Comparison) -> None:
    backends = comparison.plan.backends
    shares = 100 * agreement_matrix(comparison)
    image = axes.imshow(shares, cmap="cividis", vmin=min(50.0, float(shares.min())), vmax=100.0)
    number_cells(axes, image, [[f"{share:.2f}%" for share in row] for row in shares])
    axes.axvline(len(backends) - 0.5, color="white", linewidth=6)  # separates the files from the backends
    axes.set_xticks(range(len(backends) + 1), [*backends, "its own\nONNX file"])
    axes.set_yticks(range(len(backends)), backends)
    axes.set_title(f"Same predicted class, share of {comparison.test_images:,} test images")


def agreement_matrix(comparison: Comparison) -> NDArray[np.float64]:
    """Return the shares of equal predictions, averaged over the seeds: rows and columns are backends.

    The additional last column compares each trained model with its exported file.
    """
    backends = comparison.plan.backends
    matrix = np.eye(len(backends), len(backends) + 1)
    for row, one in enumerate(backends):
        for column, other in enumerate(backends):
            shares = [pair.agreement for pair in comparison.pairs if {pair.first, pair.second} == {one, other}]
            matrix[row, column] = statistics.fmean(shares) if shares else 1.0
        matrix[row, -1] = statistics.fmean(each.file_agreement for each in comparison.of(one))
    return matrix
