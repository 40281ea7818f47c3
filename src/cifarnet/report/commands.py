"""The commands that do a run again."""

import dataclasses
from pathlib import Path
from typing import Any

from cifarnet.config import Config
from cifarnet.contract import NAMED_SOURCES, shell_word
from cifarnet.job import Job
from cifarnet.recipes import RECIPES
from cifarnet.run_folder import Run

RUNS = Path("runs")
"""Where every command looks for runs unless told otherwise."""
FROM_DATA = frozenset(("classes", "image_shape"))
"""Settings that the images decide."""
OPTIONS = frozenset(
    (
        *("seed", "epochs", "patience", "min_delta", "batch_size", "validation_fraction", "optimizer"),
        *("learning_rate", "schedule", "schedule_epochs", "weight_decay", "dropout"),
        *("label_smoothing", "flip", "translation", "cutout", "precision"),
    )
)
"""Settings that `cifarnet train` has an option for."""


def train_command(job: Job, backend: str, started_from: str | None = None) -> str:
    """Return the `cifarnet train` that does the job again, from the weights of the run folder ``started_from``.

    A folder of images is named by its own name alone: where it lies is the business of whoever trained.
    """
    start = ["--recipe", job.recipe] if started_from is None else ["--from", started_from]
    words = ["cifarnet", "train", *start, "--data", place_of(job.source), "--backend", backend]
    changes = _changes(job)
    if started_from is not None:  # these are that run's, whatever the recipe's are
        changes["validation_fraction"] = job.train.validation_fraction
        changes |= {"dropout": job.model.dropout} if job.model.dense_units else {}
    for name, value in changes.items():
        if name in OPTIONS:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return " ".join(map(shell_word, words))


def run_words(run: Run) -> str:
    """Return the words of a shell by which a command finds ``run``: its name, and where it lies unless in ``runs``."""
    path, here = run.path.absolute(), Path.cwd()
    place = path.parent.relative_to(here) if path.parent.is_relative_to(here) else path.parent
    return " ".join(map(shell_word, [path.name, *([] if place == RUNS else ["--runs", str(place)])]))


def export_command(run: str = "", *, flip: bool) -> str:
    """Return the `cifarnet export` of the run of these words of a shell, or of the latest run."""
    return " ".join(["cifarnet export", *([run] if run else []), "--onnx", *(["--flip"] if flip else [])])


def settings_beyond_options(job: Job, started_from: str | None = None) -> dict[str, Any]:
    """Return what is set in Python alone: what differs from the recipe, or for the network from ``started_from``."""
    brought = set() if started_from is None else {field.name for field in dataclasses.fields(job.model)}
    return {name: value for name, value in _changes(job).items() if name not in OPTIONS | brought}


def place_of(source: str | None) -> str:
    """Return the name of the data set, or of the folder that it is in."""
    return source if source in NAMED_SOURCES else f"path/to/{Path(source or 'images').name}"


def _changes(job: Job) -> dict[str, Any]:
    """Return what differs from the recipe; the seed always, for clarity, and what `train` would fit to the images."""
    recipe = RECIPES.get(job.recipe, RECIPES["seed"])
    changes = _differing(job.model, recipe.model) | _differing(job.train, recipe.train)
    always = ("seed",) if job.train.schedule_epochs else ("batch_size", "epochs", "patience", "seed")
    told = {name: value for name, value in changes.items() if name not in FROM_DATA}
    return told | {name: getattr(job.train, name) for name in always}


def _differing(found: Config, recipe: Config) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(found)]  # type: ignore[arg-type]  # as in Config
    return {name: getattr(found, name) for name in fields if getattr(found, name) != getattr(recipe, name)}
