"""Draw the figures of a report as PNG files and as SVG elements."""

import html
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.dataset import Dataset
from cifarnet.evaluation.calibration import Reliability
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run.folder import EpochRecord

from .evidence import Absent
from .words import confidence, short, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FIGURES = ("confusion.png", "reliability.png", "classes.png", "errors.png", "robustness.png")
"""File names that ``draw_figures`` may return."""
RIGHT, WRONG, QUIET = "#4f5bd5", "#b4530a", "0.6"
"""Indigo and orange, distinguishable with color blindness."""
MOST_NUMBERED = 20
"""Maximum classes for numbers in the cells of the confusion matrix."""
COLUMNS = 6
"""Images per row of the most confident errors."""
LETTERS = 16
"""Maximum characters of a class name above a small image."""
CURVES = {"loss": 1, "accuracy": 100}
ACCURACY_TITLE = "accuracy, %"
SPLITS = {"train": ("training", WRONG), "validation": ("validation", RIGHT)}
MOST_MARKED = 60
PANEL = (5, 3.3)
"""Size of a curve in inches: about the width of a phone, where text keeps its size."""
THEME = {RIGHT: "var(--accent)", WRONG: "var(--warm)", "#999999": "var(--neutral)", "#000000": "currentColor"}
"""CSS variables of the page's theme for the colors of a figure."""


def draw_curves(history: Sequence[EpochRecord], best_epoch: int | None, path: Path, loss_title: str) -> None:
    """Draw loss and accuracy per epoch to a PNG at ``path``, and mark the best epoch if there is one."""
    figure = new_figure(9, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    _plot_curves(loss, history, best_epoch, "loss", loss_title)
    _plot_curves(accuracy, history, best_epoch, "accuracy", ACCURACY_TITLE)
    loss.legend(frameon=False)
    write_atomically(path, png(figure))


def curves_svg(history: Sequence[EpochRecord], best_epoch: int | None, loss_title: str) -> list[str]:
    """Return loss and accuracy per epoch as two SVG elements."""
    drawn = []
    for name in CURVES:
        figure = new_figure(*PANEL)
        title = loss_title if name == "loss" else ACCURACY_TITLE
        _plot_curves(figure.subplots(), history, best_epoch, name, title)
        last = getattr(history[-1], f"validation_{name}")
        drawn.append(_svg(figure, f"{name} per epoch; final validation {name} {last:.4g}"))
    return drawn


def _plot_curves(axes: "Axes", history: Sequence[EpochRecord], best_epoch: int | None, name: str, title: str) -> None:
    factor = CURVES[name]
    epochs = [row.epoch for row in history]
    for split, (label, color) in SPLITS.items():
        values = [factor * getattr(row, f"{split}_{name}") for row in history]
        axes.plot(epochs, values, marker="." if len(history) <= MOST_MARKED else "", label=label, color=color)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=QUIET, linestyle="--", label=f"best epoch {best_epoch}")
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.3)
    axes.locator_params(axis="x", integer=True)


def draw_figures(evaluation: Evaluation, dataset: Dataset, robustness: Robustness | Absent) -> dict[str, bytes]:
    """Return the figures of an evaluation as PNG files by name."""
    figures = {
        "confusion.png": draw_confusion(evaluation),
        "reliability.png": draw_reliability(evaluation),
        "classes.png": draw_classes(evaluation),
    }
    if evaluation.confident_errors:
        figures["errors.png"] = draw_errors(evaluation, dataset)
    if isinstance(robustness, Robustness):
        figures["robustness.png"] = draw_robustness(robustness)
    return figures


def draw_confusion(evaluation: Evaluation) -> bytes:
    """Return the confusion matrix as a PNG file, colors normalized by row."""
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(5.0, 1.5 + 0.55 * len(counts)), 16)
    figure = new_figure(side, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= MOST_NUMBERED:
        number_cells(axes, image, [[str(count) for count in row] for row in counts])
    _name_classes(axes.xaxis, evaluation.labels, rotation=90)
    _name_classes(axes.yaxis, evaluation.labels)
    axes.set(xlabel="predicted class", ylabel="true class")
    return png(figure)


def draw_reliability(evaluation: Evaluation) -> bytes:
    """Return the reliability diagram as a PNG file, before and after temperature scaling."""
    figure = _reliability_figure(evaluation)
    figure.axes[0].legend(frameon=False)
    return png(figure)


def reliability_svg(evaluation: Evaluation) -> str:
    """Return the reliability diagram as an SVG element."""
    text = f"Reliability diagram: expected calibration error {100 * evaluation.reliability.ece:.1f} points"
    if evaluation.calibrated is not None:
        text += f", {100 * evaluation.calibrated.ece:.1f} after temperature scaling"
    return _svg(_reliability_figure(evaluation), text)


def _reliability_figure(evaluation: Evaluation) -> "Figure":
    figure = new_figure(5, 5.4)
    axes, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
    axes.plot([0, 100], [0, 100], color=QUIET, linestyle="--", label="perfect calibration")
    _plot_reliability(axes, evaluation.reliability, WRONG, "uncalibrated")
    if evaluation.calibrated is not None:
        name = f"temperature {evaluation.calibrated.temperature:g}"
        _plot_reliability(axes, evaluation.calibrated, RIGHT, name)
    axes.set(ylabel="accuracy, %", xlim=(0, 100), ylim=(0, 100))
    axes.grid(alpha=0.3)
    bins = (evaluation.calibrated or evaluation.reliability).bins
    width = 100 / len(bins)
    histogram.bar(
        [width * (at + 0.5) for at in range(len(bins))], [each.images for each in bins], 0.8 * width, color=QUIET
    )
    histogram.set(xlabel="confidence, %", ylabel="images")
    return figure


def _plot_reliability(axes: "Axes", found: Reliability, color: str, name: str) -> None:
    full = [each for each in found.bins if each.images]
    confidence = [100 * (each.confidence or 0) for each in full]
    accuracy = [100 * (each.accuracy or 0) for each in full]
    axes.plot(confidence, accuracy, marker="o", color=color, label=f"{name}: ECE {100 * found.ece:.1f}%")


def draw_classes(evaluation: Evaluation) -> bytes:
    """Return precision, recall and F1 of each class as a PNG file."""
    figure = new_figure(7, min(1.5 + 0.42 * len(evaluation.classes), 30))
    axes = figure.subplots()
    places = np.arange(len(evaluation.classes))
    looks = (("precision", WRONG, "s"), ("recall", RIGHT, "o"), ("f1", "0.25", "|"))
    for name, color, marker in looks:
        values = [getattr(each, name) for each in evaluation.classes]
        shown = [np.nan if value is None else 100 * value for value in values]
        axes.plot(shown, places, marker, color=color, label=name.capitalize(), markersize=8)
    axes.set(xlabel="%", xlim=(0, 102))
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    _name_classes(axes.yaxis, evaluation.labels)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return png(figure)


def draw_errors(evaluation: Evaluation, dataset: Dataset) -> bytes:
    """Return the most confident errors as a PNG file, with true and predicted classes."""
    errors = evaluation.confident_errors
    rows = -(-len(errors) // COLUMNS)
    figure = new_figure(1.7 * COLUMNS, 2.2 * rows)
    for place in figure.subplots(rows, COLUMNS, squeeze=False).flat:
        place.axis("off")
    for axes, error in zip(figure.axes, errors, strict=False):
        axes.imshow(np.asarray(dataset.test.images[error.index]), interpolation="nearest")
        label, predicted = (short(name)[:LETTERS] for name in (error.label, error.predicted))
        text = f"{label}\npredicted {predicted}\n{confidence(error.probability)}"
        axes.set_title(text, fontsize=8, parse_math=False)
    return png(figure)


def draw_robustness(found: Robustness) -> bytes:
    """Return the accuracy by corruption and severity as a PNG file."""
    accuracies = 100 * np.array([family.accuracies for family in found.families.values()])
    figure = new_figure(6, 1.4 + 0.36 * len(accuracies))
    axes = figure.subplots()
    image = axes.imshow(accuracies, cmap="Oranges_r", vmin=0, vmax=100, aspect="auto")
    number_cells(axes, image, [[f"{accuracy:.0f}" for accuracy in row] for row in accuracies])
    _name_classes(axes.yaxis, [spaced(name) for name in found.families])
    severities = range(accuracies.shape[1])
    axes.set_xticks(severities, [str(severity + 1) for severity in severities])
    images = "published CIFAR-10-C images" if found.is_published else "own implementation of CIFAR-10-C"
    axes.set(xlabel="severity", title=f"accuracy, %; {100 * found.clean.accuracy:.1f} on clean images\n{images}")
    return png(figure)


def number_cells(axes: "Axes", image: "AxesImage", texts: Sequence[Sequence[str]]) -> None:
    """Write a text on each cell, in black or white, whichever has more contrast."""
    colors = image.to_rgba(np.asarray(image.get_array()))[..., :3]
    # Relative luminance of WCAG; at 0.179 black and white have equal contrast.
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    for row, column in np.ndindex(luminance.shape):
        color = "black" if luminance[row, column] > 0.179 else "white"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=8, color=color)


def _name_classes(axis: Any, names: Sequence[str], **looks: Any) -> None:
    size = 9 if len(names) <= MOST_NUMBERED else 5
    # A dollar sign in a class name is not mathematics.
    axis.set_ticks(range(len(names)), [short(name) for name in names], parse_math=False, fontsize=size, **looks)


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def png(figure: "Figure") -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Characters missing from the font become boxes here; the page uses the reader's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _svg(figure: "Figure", text: str) -> str:
    """Return the figure as an SVG element in the colors of the page's theme, with ``text`` as its description."""
    from matplotlib import rc_context

    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    # Text stays text, in the page's font. The salt makes ids unique to this figure.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": text}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    content = buffer.getvalue()
    content = re.sub(r'<g id="\w+(\.\w+)?_\d+">', "<g>", content[content.index("<svg") :])
    content = re.sub(
        r"<(metadata|style).*?</\1>", "", content, flags=re.DOTALL
    )  # a style would apply to the whole page
    content = re.sub(r"font-family: [^;\"]+;? ?", "", content)
    for color, variable in THEME.items():
        content = content.replace(color, variable)
    size = re.search(r'viewBox="[^"]+"', content)
    opening = f'<svg class="plot" {size[0] if size else ""} role="img" aria-label="{html.escape(text)}">'
    return opening + content[content.index(">") + 1 :]
