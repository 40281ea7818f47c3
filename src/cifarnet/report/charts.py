"""The figures of a run: PNG files, and SVG elements for the page."""

import html
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.contract import Dataset
from cifarnet.evaluation.calibration import Reliability
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run_folder import EpochRecord

from .evidence import Absent
from .words import confidence, short, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PICTURES = ("confusion.png", "reliability.png", "classes.png", "errors.png", "robustness.png")
"""What ``draw_pictures`` may give."""
RIGHT, WRONG, QUIET = "#4f5bd5", "#b4530a", "0.6"
"""An indigo and an orange that the colour-blind tell apart."""
MOST_NUMBERED = 20
"""Classes of which a matrix with a number in every cell is readable."""
COLUMNS = 6
"""Of the gallery."""
LETTERS = 16
"""Of a class name under a small picture."""
CURVES = {"loss": ("loss, nats", 1), "accuracy": ("accuracy, %", 100)}
"""Title of each curve, and what its values are multiplied by."""
SPLITS = {"train": ("training (as it is minimised)", WRONG), "validation": ("validation", RIGHT)}
"""Label and color of each line."""
MOST_MARKED = 60
"""Epochs that are marked one by one."""
PANEL = (5, 3.3)
"""Inches of a curve on the page: about as wide as a phone, so that text keeps its size there."""
THEME = {RIGHT: "var(--accent)", WRONG: "var(--warm)", "#999999": "var(--neutral)", "#000000": "currentColor"}
"""Colors of the page's theme for those of a figure."""


def draw_curves(history: Sequence[EpochRecord], best_epoch: int | None, path: Path) -> None:
    """Draw loss and accuracy against the epoch to a PNG at ``path``, the best epoch marked where there is one."""
    figure = _figure(9, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    _plot_curves(loss, history, best_epoch, "loss")
    _plot_curves(accuracy, history, best_epoch, "accuracy")
    loss.legend(frameon=False)
    write_atomically(path, _png(figure))


def curves_svg(history: Sequence[EpochRecord], best_epoch: int | None) -> list[str]:
    """Return loss and accuracy against the epoch as two SVG elements for a page."""
    drawn = []
    for name in CURVES:
        figure = _figure(*PANEL)
        _plot_curves(figure.subplots(), history, best_epoch, name)
        last = getattr(history[-1], f"validation_{name}")
        drawn.append(_svg(figure, f"{name} against the epoch; on the held-out images it ends at {last:.4g}"))
    return drawn


def _plot_curves(axes: "Axes", history: Sequence[EpochRecord], best_epoch: int | None, name: str) -> None:
    title, factor = CURVES[name]
    epochs = [row.epoch for row in history]
    for split, (label, color) in SPLITS.items():
        values = [factor * getattr(row, f"{split}_{name}") for row in history]
        axes.plot(epochs, values, marker="." if len(history) <= MOST_MARKED else "", label=label, color=color)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=QUIET, linestyle="--", label=f"best epoch {best_epoch}")
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.3)
    axes.locator_params(axis="x", integer=True)


def draw_pictures(evaluation: Evaluation, dataset: Dataset, robustness: Robustness | Absent) -> dict[str, bytes]:
    """Return the pictures that an evaluation gives, as PNG files by name."""
    pictures = {
        "confusion.png": draw_confusion(evaluation),
        "reliability.png": draw_reliability(evaluation),
        "classes.png": draw_classes(evaluation),
    }
    if evaluation.confident_errors:
        pictures["errors.png"] = draw_errors(evaluation, dataset)
    if isinstance(robustness, Robustness):
        pictures["robustness.png"] = draw_robustness(robustness)
    return pictures


def draw_confusion(evaluation: Evaluation) -> bytes:
    """Return the matrix as a PNG file, a row per true class, each in shares of its row."""
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(5.0, 1.5 + 0.55 * len(counts)), 16)
    figure = _figure(side, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= MOST_NUMBERED:
        _number_cells(axes, image, [[str(count) for count in row] for row in counts])
    _name_classes(axes.xaxis, evaluation.labels, rotation=90)
    _name_classes(axes.yaxis, evaluation.labels)
    axes.set(xlabel="taken for", ylabel="true class")
    return _png(figure)


def draw_reliability(evaluation: Evaluation) -> bytes:
    """Return accuracy against confidence as a PNG file, before and after the temperature."""
    figure = _reliability_figure(evaluation)
    figure.axes[0].legend(frameon=False)
    return _png(figure)


def reliability_svg(evaluation: Evaluation) -> str:
    """Return accuracy against confidence as an SVG element for a page."""
    told = f"Accuracy against confidence: calibration error {100 * evaluation.reliability.ece:.1f} points"
    if evaluation.calibrated is not None:
        told += f", {100 * evaluation.calibrated.ece:.1f} at the fitted temperature"
    return _svg(_reliability_figure(evaluation), told)


def _reliability_figure(evaluation: Evaluation) -> "Figure":
    """Draw accuracy against confidence, and below it how many images have which confidence."""
    figure = _figure(5, 5.4)
    axes, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
    axes.plot([0, 100], [0, 100], color=QUIET, linestyle="--", label="as it should be")
    _plot_reliability(axes, evaluation.reliability, WRONG, "as it is")
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
    axes.plot(confidence, accuracy, marker="o", color=color, label=f"{name}: error {100 * found.ece:.1f} %")


def draw_classes(evaluation: Evaluation) -> bytes:
    """Return precision, recall and F1 of each class as a PNG file."""
    figure = _figure(7, min(1.5 + 0.42 * len(evaluation.classes), 30))
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
    return _png(figure)


def draw_errors(evaluation: Evaluation, dataset: Dataset) -> bytes:
    """Return the most confident errors as a PNG file, each with its true class and what it was taken for."""
    errors = evaluation.confident_errors
    rows = -(-len(errors) // COLUMNS)
    figure = _figure(1.7 * COLUMNS, 2.2 * rows)
    for place in figure.subplots(rows, COLUMNS, squeeze=False).flat:
        place.axis("off")
    for axes, error in zip(figure.axes, errors, strict=False):
        axes.imshow(np.asarray(dataset.test.images[error.index]), interpolation="nearest")
        label, predicted = (short(name)[:LETTERS] for name in (error.label, error.predicted))
        text = f"{label}\ntaken for {predicted}\n{confidence(error.probability)}"
        axes.set_title(text, fontsize=8, parse_math=False)
    return _png(figure)


def draw_robustness(found: Robustness) -> bytes:
    """Return the accuracy under each family and severity of corruption as a PNG file."""
    accuracies = 100 * np.array([family.accuracies for family in found.families])
    figure = _figure(6, 1.4 + 0.36 * len(accuracies))
    axes = figure.subplots()
    image = axes.imshow(accuracies, cmap="Oranges_r", vmin=0, vmax=100, aspect="auto")
    _number_cells(axes, image, [[f"{accuracy:.0f}" for accuracy in row] for row in accuracies])
    _name_classes(axes.yaxis, [spaced(family.name) for family in found.families])
    severities = range(accuracies.shape[1])
    axes.set_xticks(severities, [str(severity + 1) for severity in severities])
    axes.set(xlabel="severity", title=f"accuracy, %; {100 * found.clean.accuracy:.1f} on clean images")
    return _png(figure)


def _number_cells(axes: "Axes", image: "AxesImage", texts: Sequence[Sequence[str]]) -> None:
    """Write a text on each cell, in black or white, whichever stands out more from the colour below."""
    colors = image.to_rgba(np.asarray(image.get_array()))[..., :3]
    # WCAG's relative luminance; at 0.179 black and white stand out alike.
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    for row, column in np.ndindex(luminance.shape):
        color = "black" if luminance[row, column] > 0.179 else "white"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=8, color=color)


def _name_classes(axis: Any, names: Sequence[str], **looks: Any) -> None:
    size = 9 if len(names) <= MOST_NUMBERED else 5
    # A dollar sign in a person's class name is no mathematics.
    axis.set_ticks(range(len(names)), [short(name) for name in names], parse_math=False, fontsize=size, **looks)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _png(figure: "Figure") -> bytes:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks comes out as boxes here; the page has it in the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _svg(figure: "Figure", told: str) -> str:
    """Return the figure as an SVG element in the colors of the page's theme; ``told`` says in words what it shows."""
    from matplotlib import rc_context

    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    picture = io.StringIO()
    # Text stays text, in the page's font. Names within the element are drawn from the salt: two figures share none.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": told}):
        figure.savefig(picture, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    content = picture.getvalue()
    content = re.sub(r'<g id="\w+(\.\w+)?_\d+">', "<g>", content[content.index("<svg") :])
    content = re.sub(
        r"<(metadata|style).*?</\1>", "", content, flags=re.DOTALL
    )  # a style would hold for the whole page
    content = re.sub(r"font-family: [^;\"]+;? ?", "", content)
    for color, variable in THEME.items():
        content = content.replace(color, variable)
    size = re.search(r'viewBox="[^"]+"', content)
    opening = f'<svg class="plot" {size[0] if size else ""} role="img" aria-label="{html.escape(told)}">'
    return opening + content[content.index(">") + 1 :]
