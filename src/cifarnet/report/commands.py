"""Commands that reproduce a run."""

import dataclasses
from pathlib import Path
from typing import Any

from cifarnet import pretrained
from cifarnet.config import Config
from cifarnet.dataset import IMAGE_SIZE, NAMED_SOURCES
from cifarnet.errors import shell_word
from cifarnet.recipes import RECIPES
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord

RUNS = Path("runs")
FROM_DATA = frozenset(("classes", "image_shape"))
"""Settings determined by the images."""
OPTIONS = frozenset(
    (
        *("seed", "epochs", "patience", "min_delta", "batch_size", "validation_fraction", "optimizer"),
        *("learning_rate", "schedule", "schedule_epochs", "weight_decay", "dropout"),
        *("label_smoothing", "flip", "translation", "cutout", "precision", "class_weights"),
    )
)
"""Settings with an option of `cifarnet train`."""


def train_command(record: RunRecord) -> str:
    """Return the `cifarnet train` command of a run, without the location of its images, which may be private."""
    settings, origin = record.settings, record.warm_start
    start = ["--recipe", settings.name] if origin is None else ["--from", origin.run]
    size = record.data.image_size
    sized = [] if size == IMAGE_SIZE else ["--image-size", str(size)]
    words = ["cifarnet", "train", *start, "--data", place_of(record.data.source), *sized, "--backend", record.backend]
    words += ["--skip-broken"] if record.data.skipped else []
    changes = _changes(record)
    if origin is not None:  # taken from that run, not from the recipe
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


def export_command(run: str = "", views: int = 1) -> str:
    """Return the `cifarnet export` command of the run given by shell arguments, by default the latest."""
    return " ".join(
        ["cifarnet export", *([run] if run else []), "--onnx", *(["--tta", str(views)] if views > 1 else [])]
    )


def settings_beyond_options(record: RunRecord) -> dict[str, Any]:
    """Return the settings that differ from the recipe and have no option, and its own optimizer and loss."""
    brought = set() if record.warm_start is None else {field.name for field in dataclasses.fields(record.model)}
    beyond = {name: value for name, value in _changes(record).items() if name not in OPTIONS | brought}
    return beyond | record.custom.names()


def place_of(source: str | None) -> str:
    """Return the name of the dataset, or a placeholder path for a folder."""
    return source if source in NAMED_SOURCES else f"path/to/{Path(source or 'images').name}"


def split_note(record: RunRecord) -> str:
    """Return how the images that `train_command` opens may differ from those of the run; empty if they are the same."""
    data, seed = record.data, record.train.seed
    drawn = seed if data.split_seed is None else data.split_seed
    is_synthetic = data.source == "synthetic"
    if data.source is None:
        return "The images were arrays in Python, which the command cannot open: repeat the run with cifarnet.train."
    if data.source == "cifar10" or (data.split_by is None and not is_synthetic):
        return ""
    if data.split_by == "position" and not is_synthetic:
        chosen, otherwise = "by the positions of the files", "by their content"
    elif record.warm_start and record.warm_start.run != pretrained.NAME:
        chosen, otherwise = f"with seed {drawn}", f"with the seed of {record.warm_start.run}"
    elif drawn != seed:
        chosen, otherwise = f"with seed {drawn}", f"with {seed}"
    else:
        return ""
    what = "The images were" if is_synthetic else "The test split was"
    return f"{what} drawn {chosen}; the command draws {otherwise}. cifarnet reproduce repeats the run in any case."


def _changes(record: RunRecord) -> dict[str, Any]:
    """Return the settings that differ from the recipe, the seed, and those that `train` would adapt to the images."""
    settings, replaced = record.settings, record.train.to_json().keys() - record.training.keys()
    replaced |= record.custom.names().keys()
    recipe = RECIPES.get(settings.name, RECIPES["seed"]).sized(settings.model.image_shape)
    changes = _differing(settings.model, recipe.model) | _differing(settings.train, recipe.train)
    always = ("seed",) if settings.train.schedule_epochs else ("batch_size", "epochs", "patience", "seed")
    chosen = {name: value for name, value in changes.items() if name not in FROM_DATA | replaced}
    return chosen | {name: getattr(settings.train, name) for name in always}


def _differing(found: Config, recipe: Config) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(found)]  # type: ignore[arg-type]  # as in Config
    return {name: getattr(found, name) for name in fields if getattr(found, name) != getattr(recipe, name)}
