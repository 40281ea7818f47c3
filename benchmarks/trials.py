"""The tables of the stored trials: how `seed` was chosen, and the ablation of `fast`.

The lines were measured on validation images by earlier versions; ``changes`` and ``settings`` have what differed.
``python -m benchmarks.recipes`` with ``--changed`` trains one again.
"""

import statistics
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.harness.records import Line, cores, grouped, markdown, mean_and_range, percent, shown

RECIPE = "the recipe"
TITLES = {
    "centre": "base",
    "decay 0.1": "weight decay 0.1",
    "dropout 0.5, no warm-up, decay 0.6": "dropout 0.5, no warm-up, weight decay 0.6",
    "maximum instead of average": "global max pooling",
    "no shifts": "no random crop",
    "the whole batch normalised at once": "batch normalization over all 512 images",
    "valid padding": "`valid` padding",
}
"""Titles of trials that the stored lines call otherwise."""


def tuning_table(path: Path = RESULTS / "tuning.jsonl") -> str:
    """Return the trials of `seed`, the best mean validation loss first."""
    groups = grouped(path, itemgetter("trial"))
    losses = {name: statistics.mean(line["validation_loss"] for line in group) for name, group in groups.items()}
    rows = [
        [
            TITLES.get(name, name),
            len(groups[name]),
            f"{losses[name]:.4f}",
            percent(statistics.mean(line["validation_accuracy"] for line in groups[name]), 2),
            ", ".join(str(line["best_epoch"]) for line in groups[name]),
        ]
        for name in sorted(groups, key=losses.__getitem__)
    ]
    return markdown(("trial", "seeds", "validation loss", "validation accuracy", "best epoch"), rows)


def ablation_table(path: Path = RESULTS / "ablation.jsonl") -> str:
    """Return the trials of `fast` with two seeds or more: by epochs, the recipe first, then the worst.

    Points are the mean difference of a trial from the recipe trained for as many epochs, from the same seed, on the
    same processor; there are none for a row with a trial that has no such partner.
    """
    found = grouped(path, lambda line: (line["settings"]["epochs"], line["trial"]))
    groups = {key: group for key, group in found.items() if len({line["seed"] for line in group}) > 1}
    points = {key: _points(group, found.get((key[0], RECIPE), [])) for key, group in groups.items()}
    rows = [
        _ablation_row(key, groups[key], None if key[1] == RECIPE else points[key])
        for key in sorted(groups, key=lambda key: (key[0], key[1] != RECIPE, points[key] or 0))
    ]
    titles = (
        "changed",
        "epochs",
        "runs",
        "validation accuracy",
        "points",
        "with TTA",
        "validation loss",
        "minutes",
    )
    machines = sorted({cores(line["machine"]) for group in groups.values() for line in group})
    return f"{markdown(titles, rows)}\n\nOn {' and '.join(machines)}."


def _ablation_row(key: tuple[int, str], group: Sequence[Line], points: float | None) -> list[object]:
    epochs, name = key
    return [
        TITLES.get(name, name),
        epochs,
        len(group),
        mean_and_range([_accuracy(line) for line in group], "{:.2f}%"),
        shown(points, "+.2f"),
        percent(statistics.mean(line["flip_accuracy"] for line in group), 2),
        f"{statistics.mean(line['validation']['loss'] for line in group):.4f}",
        f"{statistics.mean(line['minutes'] for line in group):.1f}",
    ]


def _points(group: Sequence[Line], whole: Sequence[Line]) -> float | None:
    partners = {_circumstances(line): _accuracy(line) for line in whole}
    if not all(_circumstances(line) in partners for line in group):
        return None
    return statistics.mean(_accuracy(line) - partners[_circumstances(line)] for line in group)


def _circumstances(line: Line) -> tuple[int, str]:
    return line["seed"], cores(line["machine"])


def _accuracy(line: Line) -> float:
    return 100 * float(line["validation"]["accuracy"])
