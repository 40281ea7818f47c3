"""The tables and the figure of the recipes benchmark, from the stored trainings."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.harness.figures import figure, save
from benchmarks.harness.records import cores, markdown, mean_and_range, read_lines
from benchmarks.recipes.trained import changed_recipe

PATH = RESULTS / "recipes.jsonl"
CHANGED = RESULTS / "changed_recipes.jsonl"
"""Trainings with other settings than the recipe's, tried before those were chosen."""
WORDS = {"by-hand": "hand-written PyTorch", "by-hand-bfloat16": "hand-written PyTorch, bfloat16"}
"""Rows of a baseline whose program was not kept."""
COLORS = {
    "seed": "#b5838d",
    "fast": "#1f6f8b",
    "strong": "#0b3954",
    "by-hand": "#8a9a5b",
    "by-hand-bfloat16": "#5c6b2f",
}
"""Colors of the lines, in the order of the table."""
TICKS = (1, 2, 5, 10, 20, 50, 100)
"""Ticks of the time axis, minutes."""
LINES = {"jax": ":", "torch": "--", "tensorflow": "-"}


@dataclass(frozen=True)
class Training:
    """One stored training."""

    head: dict[str, Any]
    epochs: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    """Test accuracy, that with test-time augmentation, and the seconds until the first of them was known."""

    @property
    def key(self) -> tuple[str, str]:
        """Return recipe and backend."""
        return self.head["name"], self.head["backend"]

    @property
    def best(self) -> dict[str, Any]:
        """Return the epoch of the best weights."""
        return min(self.epochs, key=lambda epoch: epoch["validation_loss"])


def trainings(path: Path = PATH) -> list[Training]:
    """Read the results."""
    found: list[Training] = []
    for line in read_lines(path):
        if "name" in line:
            found.append(Training(line))
        elif "epoch" in line:
            found[-1].epochs.append(line)
        else:
            for name, value in line.items():
                found[-1].end.setdefault(name, value)
    return found


def curve_table(path: Path = PATH) -> str:
    """Return mean and range over the seeds, one row per recipe and backend."""
    rows = [_row(*key, group) for key, group in _groups(path)]
    return markdown(("recipe", "backend", "seeds", "epochs", *TITLES), rows)


def short_table(path: Path = PATH) -> str:
    """Return one row per recipe, of the backend that trained it in the shortest time."""
    quickest: dict[str, list[str]] = {}
    for (name, backend), group in _groups(path):
        if name not in WORDS:
            quickest.setdefault(name, _row(name, backend, group))
    return markdown(("recipe", "backend", "seeds", "epochs", *TITLES), list(quickest.values()))


def _groups(path: Path) -> list[tuple[tuple[str, str], list[Training]]]:
    """Return the trainings by recipe and backend, in the order of the recipes, the quickest backend first."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for training in trainings(path):
        groups.setdefault(training.key, []).append(training)
    order = list(COLORS)
    return sorted(groups.items(), key=lambda each: (order.index(each[0][0]), statistics.mean(_minutes(each[1]))))


TITLES = ("minutes", "test accuracy", "with TTA", "processor")
DIFFERING = ("convolutions_per_block", "filters", "translation", "cutout", "epochs")
"""The settings by which the trials of `strong` differ."""


def changed_table(path: Path = CHANGED, recipes: Path = PATH) -> str:
    """Return the trials for `strong`, the lowest validation loss first."""
    groups: dict[tuple[Any, ...], list[Training]] = {}
    for training in (*trainings(path), *trainings(recipes)):
        if training.head["name"] == "strong":
            settings = changed_recipe("strong", training.head.get("changed", {}))
            values = settings.model.to_json() | settings.train.to_json()
            key = tuple(str(values[name]).strip("[]") for name in DIFFERING)
            groups.setdefault(key, []).append(training)
    best = {key: [training.best for training in group] for key, group in groups.items()}
    rows = [
        [
            *key,
            ", ".join(str(training.head["seed"]) for training in groups[key]),
            mean_and_range([100 * epoch["validation_accuracy"] for epoch in best[key]], "{:.2f} %"),
            f"{_loss(best[key]):.4f}",
            *_measured(groups[key]),
        ]
        for key in sorted(groups, key=lambda key: _loss(best[key]))
    ]
    titles = ("convolutions per block", "filters", "random crop", "cutout", "epochs")
    return markdown((*titles, "seeds", "validation accuracy", "validation loss", *TITLES), rows)


def _loss(epochs: Sequence[dict[str, float]]) -> float:
    return statistics.mean(epoch["validation_loss"] for epoch in epochs)


def _minutes(group: Sequence[Training]) -> list[float]:
    return [training.end["seconds"] / 60 for training in group]


def _row(name: str, backend: str, group: Sequence[Training]) -> list[str]:
    return [
        WORDS.get(name, f"`{name}`"),
        backend,
        ", ".join(str(training.head["seed"]) for training in group),
        f"{statistics.mean(len(training.epochs) for training in group):.0f}",
        *_measured(group),
    ]


def _measured(group: Sequence[Training]) -> list[str]:
    """Return the cells below ``TITLES``."""
    return [
        mean_and_range(_minutes(group), "{:.1f}"),
        mean_and_range([100 * training.end["test_accuracy"] for training in group], "{:.2f} %"),
        mean_and_range([100 * training.end["flip_test_accuracy"] for training in group], "{:.2f} %"),
        " and ".join(sorted({cores(training.head["machine"]) for training in group})),
    ]


def figure_of(path: Path) -> None:
    """Draw validation accuracy against minutes."""
    drawn, (axes,) = figure(1, 12)
    named = set()
    for training in trainings(path):
        name, backend = training.key
        label = f"{WORDS.get(name, name)}, {backend}"
        axes.plot(
            [epoch["seconds"] / 60 for epoch in training.epochs],
            [100 * epoch["validation_accuracy"] for epoch in training.epochs],
            LINES[backend],
            color=COLORS.get(name, "#999999"),
            label=None if label in named else label,
            alpha=0.8,
        )
        named.add(label)
    axes.set_xscale("log", subs=[])
    axes.set_xticks(TICKS, [str(minutes) for minutes in TICKS])
    axes.set_xlabel("minutes from the start of the process")
    axes.set_ylabel("validation accuracy, %")
    axes.set_ylim(bottom=40)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(drawn, path.with_suffix(".png"))
