"""Commands that reproduce a run."""

import dataclasses
from pathlib import Path
from typing import Any

from cifarnet.config import Config
from cifarnet.dataset import NAMED_SOURCES
from cifarnet.errors import shell_word
from cifarnet.recipes import RECIPES, Recipe
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord

RUNS = Path("runs")
"""Default of --runs."""
FROM_DATA = frozenset(("classes", "image_shape"))
"""Settings determined by the images."""
OPTIONS = frozenset(
    (
        *("seed", "epochs", "patience", "min_delta", "batch_size", "validation_fraction", "optimizer"),
        *("learning_rate", "schedule", "schedule_epochs", "weight_decay", "dropout"),
        *("label_smoothing", "flip", "translation", "cutout", "precision"),
    )
)
"""Settings with an option of `cifarnet train`."""


def train_command(record: RunRecord, started_from: str | None = None) -> str:
    """Return the `cifarnet train` command of a run, fine-tuning the run folder ``started_from`` if given.

    A folder of images is given by its name without its location, which may be private.
    """
    settings = record.settings
    start = ["--recipe", settings.name] if started_from is None else ["--from", started_from]
    words = ["cifarnet", "train", *start, "--data", place_of(record.data.source), "--backend", record.backend]
    changes = _changes(settings)
    if started_from is not None:  # taken from that run, not from the recipe
        changes["validation_fraction"] = settings.train.validation_fraction
        changes |= {"dropout": settings.model.dropout} if settings.model.dense_units else {}
    for name, value in changes.items():
        if name in OPTIONS:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return " ".join(map(shell_word, words))


def run_words(run: Run) -> str:
    """Return the shell arguments that identify ``run``: its name, and --runs unless it is in ``runs``."""
    path, here = run.path.absolute(), Path.cwd()
    place = path.parent.relative_to(here) if path.parent.is_relative_to(here) else path.parent
    return " ".join(map(shell_word, [path.name, *([] if place == RUNS else ["--runs", str(place)])]))


def export_command(run: str = "", *, tta: bool) -> str:
    """Return the `cifarnet export` command of the run given by shell arguments, by default the latest."""
    return " ".join(["cifarnet export", *([run] if run else []), "--onnx", *(["--tta"] if tta else [])])


def settings_beyond_options(settings: Recipe, started_from: str | None = None) -> dict[str, Any]:
    """Return the settings that differ from the recipe and have no option."""
    brought = set() if started_from is None else {field.name for field in dataclasses.fields(settings.model)}
    return {name: value for name, value in _changes(settings).items() if name not in OPTIONS | brought}


def place_of(source: str | None) -> str:
    """Return the name of the dataset, or a placeholder path for a folder."""
    return source if source in NAMED_SOURCES else f"path/to/{Path(source or 'images').name}"


def _changes(settings: Recipe) -> dict[str, Any]:
    """Return the settings that differ from the recipe, the seed, and those that `train` would adapt to the images."""
    recipe = RECIPES.get(settings.name, RECIPES["seed"])
    changes = _differing(settings.model, recipe.model) | _differing(settings.train, recipe.train)
    always = ("seed",) if settings.train.schedule_epochs else ("batch_size", "epochs", "patience", "seed")
    chosen = {name: value for name, value in changes.items() if name not in FROM_DATA}
    return chosen | {name: getattr(settings.train, name) for name in always}


def _differing(found: Config, recipe: Config) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(found)]  # type: ignore[arg-type]  # as in Config
    return {name: getattr(found, name) for name in fields if getattr(found, name) != getattr(recipe, name)}
