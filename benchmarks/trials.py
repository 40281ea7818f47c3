"""Variations of a recipe, compared on validation images; the test images are never read.

    python -m benchmarks.trials ablation BACKEND SEED NAME [NAME ...] [--epochs N]
    python -m benchmarks.trials tuning BACKEND SEED NAME [NAME ...]

`ablation` takes parts out of the recipe `fast`; `tuning` is how the recipe `seed` was chosen. Each trial appends one
line to ``results/ablation.jsonl`` or ``results/tuning.jsonl``.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.harness.records import (
    RESULTS,
    Line,
    append,
    cores,
    grouped,
    machine,
    markdown,
    mean_and_range,
    percent,
    shown,
)
from cifarnet.data import hold_out
from cifarnet.environment import versions
from cifarnet.evaluation import evaluate, flip_averaged
from cifarnet.spec import Split

RECIPE = "the recipe"
ABLATION: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "no whitening": {"whitening": 0},
    "one convolution per block, twice as wide": {"convolutions_per_block": 1, "filters": (96, 256, 256)},
    "float32": {"precision": "float32"},
    "the whole batch normalised at once": {"ghost_batch": 512},
    "maximum instead of average": {"global_pooling": "max"},
    "dense layers of 256 and 128 instead": {"global_pooling": "none", "dense_units": (256, 128), "dropout": 0.3},
    "no label smoothing": {"label_smoothing": 0.0},
    "no shifts": {"translation": 0},
    "no flips": {"flip": "none"},
    "random flips": {"flip": "random"},
    "cosine schedule": {"schedule": "cosine"},
    "Nesterov SGD, learning rate 0.5": {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "weight_decay": 5e-3,
        "warmup_epochs": 1.0,
    },
}
"""Changes of each trial to ``fast``, with what has to change along or makes up for the time."""
TUNING: dict[str, dict[str, Any]] = {
    "centre": {},
    "valid padding": {"padding": "valid"},
    "dense 256, 128, 64": {"dense_units": (256, 128, 64)},
    "initializer he_normal": {"initializer": "he_normal"},
    "pixels 0 to 1": {"pixel_range": "unit"},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.4": {"dropout": 0.4},
    "dropout 0.5, no warm-up": {"dropout": 0.5, "warmup_epochs": 0.0},
    "dropout 0.5, no warm-up, decay 0.6": {"dropout": 0.5, "warmup_epochs": 0.0, "weight_decay": 0.6},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "initializer he_normal, learning rate 2e-3": {"initializer": "he_normal", "learning_rate": 2e-3},
    "constant learning rate": {"schedule": "constant"},
    "decay 0.1": {"weight_decay": 0.1},
}
"""Changes of each trial to the centre of the search."""


@dataclass(frozen=True)
class Study:
    """Trials around one point."""

    recipe: str
    centre: Mapping[str, Any]
    """Differences of that point from the recipe."""
    trials: Mapping[str, Mapping[str, Any]]
    path: Path


STUDIES = {
    # Six epochs with the whole schedule in them, three fifths of the recipe's, make many trials affordable.
    "ablation": Study("fast", {"epochs": 6}, ABLATION, RESULTS / "ablation.jsonl"),
    # The schedule plus one epoch.
    "tuning": Study(
        "seed", {"initializer": "glorot_normal", "learning_rate": 1e-3, "epochs": 10}, TUNING, RESULTS / "tuning.jsonl"
    ),
}


def run_trial(study: Study, name: str, seed: int, source: str = "cifar10", **further: Any) -> Line:
    """Train one trial and return its line; ``further`` are settings that make it a toy."""
    from cifarnet.model import predictor  # after the backend is chosen
    from cifarnet.training import load_best

    changes = study.trials[name] | further
    chosen = cifarnet.recipe(study.recipe).changed({**study.centre, "seed": seed, **changes})
    dataset = cifarnet.open_dataset(source)
    parts = hold_out(dataset.train, chosen.train.validation_fraction, seed, len(dataset.labels))
    held_out = Split(dataset.train.images[parts.validation], dataset.train.labels[parts.validation])
    unseen = dataclasses.replace(dataset, test=held_out)  # so that the test images play no part
    job = cifarnet.Job(recipe=study.recipe, model=chosen.model, train=chosen.train)
    with tempfile.TemporaryDirectory() as folder:
        run = cifarnet.start(job, unseen, Path(folder))
        record = cifarnet.carry_out(run, unseen, cifarnet.Silent())
        averaged = evaluate(flip_averaged(predictor(load_best(run))), held_out)
    return {
        "trial": name,
        "changes": changes,
        "settings": chosen.model.to_json() | chosen.train.to_json(),
        "seed": seed,
        "best_epoch": record["best_epoch"],
        "validation": record["metrics"]["validation"],
        "flip_accuracy": averaged.accuracy,
        "minutes": record["elapsed_s"] / 60,
        "backend": cifarnet.choose_backend(),
        "machine": machine(),
        "versions": versions(),
    }


def tuning_table(path: Path = STUDIES["tuning"].path) -> str:
    """Return the trials of `seed`, the best mean validation loss first."""
    groups = grouped(path, itemgetter("trial"))
    losses = {name: statistics.mean(_validation(line)["loss"] for line in group) for name, group in groups.items()}
    rows = [
        [
            name,
            len(groups[name]),
            f"{losses[name]:.4f}",
            percent(statistics.mean(_validation(line)["accuracy"] for line in groups[name]), 2),
            ", ".join(str(line["best_epoch"]) for line in groups[name]),
        ]
        for name in sorted(groups, key=losses.__getitem__)
    ]
    return markdown(("trial", "seeds", "validation loss", "validation accuracy", "best epoch"), rows)


def _validation(line: Line) -> Mapping[str, float]:
    """Return the metrics on the validation images, which the first lines have under other names."""
    return line.get("validation") or {name: line[f"validation_{name}"] for name in ("loss", "accuracy")}


def ablation_table(path: Path = STUDIES["ablation"].path) -> str:
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
        "trainings",
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
        name,
        epochs,
        len(group),
        mean_and_range([_accuracy(line) for line in group], "{:.2f} %"),
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


def main() -> None:
    """Run the trials named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("backend")
    parser.add_argument("seed", type=int)
    parser.add_argument("trials", nargs="+", choices=[*ABLATION, *TUNING], metavar="NAME")
    parser.add_argument("--epochs", type=int, help="6 in the ablation and 10 in the tuning by default")
    given = parser.parse_args()
    cifarnet.prepare_process()
    cifarnet.choose_backend(given.backend)
    study = STUDIES[given.study]
    for name in given.trials:
        append(study.path, run_trial(study, name, given.seed, **({"epochs": given.epochs} if given.epochs else {})))
    print(ablation_table() if given.study == "ablation" else tuning_table())


if __name__ == "__main__":
    main()
