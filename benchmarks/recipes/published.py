"""The recipes beside published CIFAR-10 speed records: accuracy against the operations of the training."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import RESULTS
from benchmarks.harness.figures import figure, save
from benchmarks.harness.records import cores, markdown, mean_and_range
from benchmarks.recipes.table import COLORS, Training, quickest
from cifarnet.config import ModelConfig
from cifarnet.recipes import RECIPES

FIGURE = RESULTS / "operations.png"
CIFAR10_IMAGES = 50_000
TICKS = (0.1, 0.2, 0.5, 1, 2, 5)
"""Ticks of the axis of operations, PFLOP."""
SIDES = (("right", -8), ("left", 8), ("left", 8), ("right", -8))
"""Where the names of the published records stand, beside their points: alignment, and distance in points."""


@dataclass(frozen=True)
class Published:
    """A record as its project's page states it."""

    name: str
    """Markdown that begins with a link; the figure shows its text."""
    accuracy: float
    """Test accuracy in percent, with test-time augmentation over six views."""
    time: str
    hardware: str
    pflop: float | None
    """Operations of the training in units of 1e15, or None if the page does not state them."""


PUBLISHED = (
    Published("[Hiverge cifar10-speedrun](https://github.com/hiverge/cifar10-speedrun)", 94.01, "1.98 s", "A100", 0.27),
    Published("[airbench94_muon](https://github.com/KellerJordan/cifar10-airbench)", 94.01, "2.59 s", "A100", 0.29),
    Published("[airbench95](https://github.com/KellerJordan/cifar10-airbench)", 95.01, "10.4 s", "A100", 1.4),
    Published("[airbench96_faster](https://github.com/KellerJordan/cifar10-airbench)", 96.00, "27.3 s", "A100", 3.1),
    Published(
        "[DAWNBench](https://dawn.cs.stanford.edu/benchmark/), best without a GPU, 2017",
        94.05,
        "79.4 h",
        "16 vCPU",
        None,
    ),
)


def forward_operations(config: ModelConfig) -> int:
    """Return the multiplications and additions of one image from pixels to logits, as `cifarnet inspect` counts them.

    Bias, activation, pooling and softmax, about a hundredth, are not counted. Padding is ``same``, as in all recipes.
    """
    height, width, channels = config.image_shape
    total = 0
    if config.whitening:
        height, width = height - config.whitening + 1, width - config.whitening + 1
        total += height * width * config.whitening**2 * channels * config.whitened_channels
        channels = config.whitened_channels
    pooled_after = 1 if config.pooling == "first" else config.convolutions_per_block
    for filters in config.filters:
        for position in range(1, config.convolutions_per_block + 1):
            total += height * width * config.kernel_size**2 * channels * filters
            channels = filters
            if position == pooled_after:
                height, width = height // 2, width // 2
    features = channels if config.global_pooling != "none" else height * width * channels
    for units in (*config.dense_units, config.classes):
        total += features * units
        features = units
    return 2 * total


def training_pflop(training: Training) -> float:
    """Return the operations of a training on CIFAR-10 in units of 1e15: three times the forward pass of each image."""
    settings = RECIPES[training.head["name"]]
    images = round(CIFAR10_IMAGES * (1 - settings.train.validation_fraction))
    return 3 * forward_operations(settings.model) * images * len(training.epochs) / 1e15


def _ours() -> Mapping[str, list[Training]]:
    return {name: group for name, group in quickest().items() if name in RECIPES}


def records_table() -> str:
    """Return the published records and the recipes, each on the backend that trained it in the shortest time."""
    rows = [
        [each.name, f"{each.accuracy:.2f}%", "—", f"{each.pflop:g}" if each.pflop else "—", each.time, each.hardware]
        for each in PUBLISHED
    ]
    for name, group in _ours().items():
        with_tta, plain = (
            mean_and_range([100 * training.end[key] for training in group], "{:.2f}%")
            for key in ("flip_test_accuracy", "test_accuracy")
        )
        pflop = statistics.mean(map(training_pflop, group))
        minutes = statistics.mean(training.end["seconds"] / 60 for training in group)
        hardware = " or ".join(sorted({cores(training.head["machine"]) for training in group}))
        rows.append([f"cifarnet, `{name}`", with_tta, plain, f"{pflop:.2g}", f"{minutes:.1f} min", hardware])
    return markdown(["", "with TTA", "plain", "PFLOP", "time", "on"], rows)


def draw() -> None:
    """Draw test accuracy with test-time augmentation against the operations of the training."""
    drawn, (axes,) = figure(1, 10)
    points = [(each.pflop, each.accuracy, each.name.split("]")[0][1:]) for each in PUBLISHED if each.pflop]
    axes.plot([point[0] for point in points], [point[1] for point in points], "o", color="#8a9a5b", label="published")
    for (pflop, accuracy, name), (side, shift) in zip(points, SIDES, strict=True):
        place = {"xytext": (shift, -3), "textcoords": "offset points", "ha": side, "fontsize": 8}
        axes.annotate(name, (pflop, accuracy), **place)
    for name, group in _ours().items():
        if name == "seed":  # far below the others
            continue
        pflops, accuracies = zip(
            *((training_pflop(run), 100 * run.end["flip_test_accuracy"]) for run in group), strict=True
        )
        axes.plot(pflops, accuracies, "s", color=COLORS[name], label=f"cifarnet, {name}")
    axes.set_xscale("log", subs=[])
    axes.set_xticks(TICKS, [f"{pflop:g}" for pflop in TICKS])
    axes.set_xlabel("operations of the whole training, PFLOP")
    axes.set_ylabel("test accuracy with TTA, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(drawn, FIGURE)
