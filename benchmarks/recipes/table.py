"""The tables and the figure of the recipes benchmark, from the stored trainings."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.harness.figures import figure, save
from benchmarks.harness.records import cores, markdown, mean_and_range, read_lines, table_of
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


def _minutes(group: Sequence[Training]) -> list[float]:
    return [training.end["seconds"] / 60 for training in group]


def _seeds(group: Sequence[Training]) -> str:
    return ", ".join(str(training.head["seed"]) for training in group)


def _accuracy(group: Sequence[Training], name: str) -> str:
    return _mean_percent([training.end[name] for training in group])


def _loss(group: Sequence[Training]) -> float:
    return statistics.mean(training.best["validation_loss"] for training in group)


MEASURED: Mapping[str, Callable[[Sequence[Training]], str]] = {
    "minutes": lambda group: mean_and_range(_minutes(group), "{:.1f}"),
    "test accuracy": lambda group: _accuracy(group, "test_accuracy"),
    "with TTA": lambda group: _accuracy(group, "flip_test_accuracy"),
    "processor": lambda group: " or ".join(sorted({cores(training.head["machine"]) for training in group})),
}
"""Columns of a group of trainings with the same settings."""
COLUMNS: Mapping[str, Callable[[Sequence[Training]], str]] = {
    "recipe": lambda group: WORDS.get(group[0].head["name"], f"`{group[0].head['name']}`"),
    "backend": lambda group: _backend(group[0]),
    "seeds": _seeds,
    "epochs": lambda group: f"{statistics.mean(len(training.epochs) for training in group):.0f}",
    **MEASURED,
}


def curve_table(path: Path = PATH) -> str:
    """Return mean and range over the seeds, one row per recipe and backend."""
    return table_of(COLUMNS, _groups(path))


def short_table(path: Path = PATH) -> str:
    """Return one row per recipe, of the backend that trained it in the shortest time."""
    return table_of(COLUMNS, quickest(path).values())


def quickest(path: Path = PATH) -> dict[str, list[Training]]:
    """Return the trainings of each recipe on the backend that trained it in the shortest time."""
    found: dict[str, list[Training]] = {}
    for group in _groups(path):
        if group[0].head["name"] not in WORDS:
            found.setdefault(group[0].head["name"], group)
    return found


def _backend(training: Training) -> str:
    """Return the backend and, for an earlier version of its convolutions, whose they were."""
    earlier = training.head.get("convolutions")
    return training.head["backend"] + (f", {earlier} convolutions" if earlier else "")


def _groups(path: Path) -> list[list[Training]]:
    """Return the trainings by recipe and backend, in the order of the recipes, the quickest backend first."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for training in trainings(path):
        groups.setdefault((training.head["name"], _backend(training)), []).append(training)
    order = list(COLORS)
    return sorted(
        groups.values(), key=lambda group: (order.index(group[0].head["name"]), statistics.mean(_minutes(group)))
    )


def changed_table(path: Path = CHANGED, recipes: Path = PATH) -> str:
    """Return the trials for `strong`, the lowest validation loss first."""
    groups: dict[tuple[str, ...], list[Training]] = {}
    for training in (*trainings(path), *trainings(recipes)):
        if training.head["name"] == "strong":
            settings = changed_recipe("strong", training.head.get("changed", {}))
            values = settings.model.to_json() | settings.train.to_json()
            key = tuple(str(values[name]).strip("[]") for name in DIFFERING.values())
            groups.setdefault(key, []).append(training)
    columns = {
        "seeds": _seeds,
        "validation accuracy": lambda group: mean_and_range(
            [100 * training.best["validation_accuracy"] for training in group], "{:.2f}%"
        ),
        "validation loss": lambda group: f"{_loss(group):.4f}",
        **MEASURED,
    }
    ordered = sorted(groups.items(), key=lambda each: _loss(each[1]))
    rows = [[*key, *(cell(group) for cell in columns.values())] for key, group in ordered]
    return markdown([*DIFFERING, *columns], rows)


DIFFERING = {
    "convolutions per block": "convolutions_per_block",
    "filters": "filters",
    "random crop": "translation",
    "cutout": "cutout",
    "epochs": "epochs",
}
"""The settings by which the trials of `strong` differ, by their column."""


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


def tuned_table(path: Path = CHANGED, runs: Path = RESULTS / "runs") -> str:
    """Return the accuracy of `seed` with the settings that `cifarnet tune` found, and with its own."""
    own = [json.loads(run.read_text()) for run in sorted(runs.glob("seed*-tensorflow.json"))]
    rows = [["`seed`", "", [run["metrics"]["test"]["accuracy"] for run in own], [run["best_epoch"] for run in own]]]
    groups: dict[str, list[Training]] = {}
    for training in trainings(path):
        if training.head["name"] == "seed":
            groups.setdefault(_settings_text(training.head["changed"]), []).append(training)
    for settings, group in groups.items():
        accuracies = [training.end["test_accuracy"] for training in group]
        rows.append(["`seed`, tuned", settings, accuracies, [training.best["epoch"] for training in group]])
    columns = ["recipe", "settings", "seeds", "best epoch", "test accuracy"]
    return markdown(
        columns,
        [
            [name, settings, len(accuracies), ", ".join(map(str, epochs)), _mean_percent(accuracies)]
            for name, settings, accuracies, epochs in rows
        ],
    )


def _settings_text(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in changed.items())


def _mean_percent(fractions: Sequence[float]) -> str:
    return mean_and_range([100 * fraction for fraction in fractions], "{:.2f}%")
