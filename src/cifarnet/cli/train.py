"""``cifarnet train``: the main job."""

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cifarnet.config import Flip, ModelConfig, OptimizerName, Precision, Schedule, TrainConfig
from cifarnet.contract import durable, shell_word
from cifarnet.errors import RunError, UsageError
from cifarnet.interruption import INTERRUPTED
from cifarnet.job import Job, job_of, origin_of, require_resumable
from cifarnet.recipes import RECIPES, Recipe, recipe
from cifarnet.run_folder import Run, find_run

from .display import TrainingDisplay, download_bar, out, say, say_not_known, shortened, wrapped
from .options import DATA, RUN, BackendOption, JsonOption, RunsOption, filled
from .runs import trained_run

if TYPE_CHECKING:
    from cifarnet.contract import Dataset
    from cifarnet.data import HoldOut
    from cifarnet.training.interrupt import StopRequest
    from cifarnet.training.tracking import Tracking
    from cifarnet.training.warm_start import WarmStart

SETTINGS = frozenset(field.name for kind in (ModelConfig, TrainConfig) for field in fields(kind))
"""Names that an option shares with a field of the recipe."""
MOST_NAMES = 12
"""Class names that are told before training."""


def override(text: str) -> Any:
    """Return the option of a setting that the recipe has a value for."""
    return typer.Option(help=text, show_default=False, rich_help_panel="Settings instead of the recipe's")


def one_of(choices: Any) -> str:
    """Name the values that a setting admits."""
    return f"One of {', '.join(get_args(choices))}."


def command(
    context: typer.Context,
    recipe_name: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help=f"Named settings: {', '.join(RECIPES)}.",
            show_default="seed",
            parser=filled("--recipe", "its name"),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="cifar10, synthetic, an archive of CIFAR-10 or a folder of images.",
            show_default="cifar10",
            parser=filled("--data", DATA),
        ),
    ] = None,
    backend: BackendOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with this run.", show_default=False, parser=filled("--resume", RUN)),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Start from the convolutions of this run, with its recipe; the dense layers start anew.",
            show_default=False,
            parser=filled("--from", RUN),
        ),
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this time; --resume goes on.", min=0)] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="tensorboard", help="Show it in TensorBoard too.", show_default=False),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    seed: Annotated[int | None, override("Root of every random draw.")] = None,
    epochs: Annotated[int | None, override("Most epochs.")] = None,
    patience: Annotated[int | None, override("Epochs without improvement before training stops.")] = None,
    min_delta: Annotated[float | None, override("Least fall of the validation loss that is an improvement.")] = None,
    batch_size: Annotated[int | None, override("Images per step.")] = None,
    validation_fraction: Annotated[float | None, override("Part of the training images held out, 0 to 1.")] = None,
    optimizer: Annotated[str | None, override(one_of(OptimizerName))] = None,
    learning_rate: Annotated[float | None, override("Peak step size.")] = None,
    schedule: Annotated[str | None, override(one_of(Schedule))] = None,
    schedule_epochs: Annotated[int | None, override("Epochs until the schedule reaches its floor; 0 for all.")] = None,
    label_smoothing: Annotated[float | None, override("Part of the target that all classes share, 0 to 1.")] = None,
    flip: Annotated[str | None, override("Mirror training images. " + one_of(Flip))] = None,
    translation: Annotated[int | None, override("Shift training images by up to so many pixels.")] = None,
    cutout: Annotated[int | None, override("Height and width of a grey square in training images.")] = None,
    precision: Annotated[str | None, override("What convolutions multiply. " + one_of(Precision))] = None,
    weight_decay: Annotated[float | None, override("Decoupled decay per step, times the learning rate.")] = None,
    dropout: Annotated[float | None, override("Fraction of dense outputs dropped in training, 0 to 1.")] = None,
) -> None:
    """Train the classifier; with no option, the recipe `seed` on CIFAR-10."""
    given = {name: value for name, value in context.params.items() if name in SETTINGS and value is not None}
    from cifarnet.training.tracking import require_trackers  # with the help it would cost numpy's time

    require_trackers(track or ())
    if warm_start is not None and data is None and resume is None:
        raise UsageError("--from was given without --data; expected the images to train on: add --data")
    if resume is None:
        run, dataset = _start(_wish(recipe_name, warm_start, runs, given), data or "cifar10", backend, runs)
    elif warm_start is not None:
        raise UsageError("--from and --resume were both given; expected one of them: a resumed run has begun already")
    else:
        run, dataset = _reopen(resume, recipe_name, data, backend, runs, given)
    record, tracking = _carry_out(run, dataset, max_minutes, track or [])
    _say_result(run, record)
    try:
        _draw(run, record["best_epoch"])
        tracking.finish(record)
    finally:
        if as_json:
            out(json.dumps(record | {"run": str(run)}, indent=2))
    sys.exit(_exit_code(record))


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be trained, before the images are known."""

    recipe: str
    settings: Recipe
    given: Collection[str]
    """Names of the settings that have their own options."""
    warm_start: "WarmStart | None" = None


def _wish(name: str | None, warm_start: str | None, runs: Path, given: dict[str, Any]) -> Wish:
    if warm_start is None:
        return Wish(recipe=name or "seed", settings=recipe(name or "seed").changed(given), given=given)
    from cifarnet.training.warm_start import warm_start_from  # numpy, which the help has no time for

    run = trained_run(runs, None if warm_start == "latest" else warm_start)
    job = job_of(run.read_record())
    if name not in (None, job.recipe):
        raise UsageError(
            f"--recipe is {name}, {run} was trained by {job.recipe}; expected that one: leave --recipe out"
        )
    # Not its epochs, say, which may have been fitted to other images; but what it holds out stays unseen.
    train = RECIPES[job.recipe].train if job.recipe in RECIPES else job.train
    train = replace(train, seed=job.train.seed, validation_fraction=job.train.validation_fraction)
    settings = Recipe(model=job.model, train=train).changed(given)
    return Wish(recipe=job.recipe, settings=settings, given=given, warm_start=warm_start_from(run))


def _start(wish: Wish, source: str, backend: str | None, runs: Path) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose
    from cifarnet.data import hold_out_of, open_dataset

    if "dropout" in wish.given and not wish.settings.model.dense_units:
        raise UsageError(
            f"--dropout is {wish.settings.model.dropout}, which drops nothing in a network without hidden dense "
            "layers; expected no such option: leave it out, or take another recipe"
        )
    wanted = wish.settings.train
    job = Job(recipe=wish.recipe, model=wish.settings.model, train=wanted)  # or it is refused
    say(f"backend {choose(backend)}, recipe {wish.recipe}, data {source}")
    if wish.warm_start is not None:
        say(f"starting from the convolutions of {wish.warm_start.run}")
        if wish.warm_start.seen is None:
            say_not_known(wish.warm_start.run)
    with download_bar() as progress:
        dataset = open_dataset(source, seed=wanted.seed, progress=progress)
    parts = hold_out_of(dataset, wanted)
    train = wish.settings.adapted_to(len(parts.train), wish.given).train
    notes = (*_changes(wanted, train, len(parts.train)), *_oddities(dataset, parts, train.batch_size))
    for line in (*wrapped(_contents(dataset)), *notes):
        say(line)
    from cifarnet.training.train import start  # Keras, now that its framework is chosen

    model = replace(wish.settings.model, classes=len(dataset.labels), image_shape=dataset.train.images.shape[1:])
    job = replace(job, model=model, train=train)
    return start(job, dataset, runs, warm_start=wish.warm_start), dataset


def _contents(dataset: "Dataset") -> str:
    names = ", ".join(map(shortened, dataset.labels[:MOST_NAMES])) + (", …" if len(dataset.labels) > MOST_NAMES else "")
    sizes = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    return f"{sizes} of {len(dataset.labels)} classes: {names}"


def _changes(wanted: TrainConfig, train: TrainConfig, images: int) -> Iterator[str]:
    """Yield a line if settings were made to fit the images, or the epochs that were asked for."""
    was, now = wanted.to_json(), train.to_json()
    changed = [name for name in now if now[name] != was[name]]
    if changed:
        why = f"{train.epochs} epochs" if set(changed) == {"patience"} else f"{images:,} images"
        told = (f"{name.replace('_', ' ')} {was[name]} -> {now[name]}" for name in changed)
        yield f"note: for {why}: {', '.join(told)}"


def _oddities(dataset: "Dataset", parts: "HoldOut", batch_size: int) -> Iterator[str]:
    """Yield a line for each setting that is allowed, and hardly meant for so few images."""
    if batch_size > len(parts.train):
        yield f"note: batch size {batch_size:,} is more than the {len(parts.train):,} images to train on"
    held_out = Counter(dataset.train.labels[parts.validation].tolist())
    alone = [dataset.labels[label] for label, count in sorted(held_out.items()) if count == 1]
    if alone:
        more = f" and of {len(alone) - 1} more" if len(alone) > 1 else ""
        yield f"note: of {shortened(alone[0])}{more} a single image is held out: the validation loss will be coarse"


def _reopen(
    name: str, recipe_name: str | None, data: str | None, backend: str | None, runs: Path, given: dict[str, Any]
) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose

    run = find_run(runs, None if name == "latest" else name)
    record = run.read_record()
    job = job_of(record)
    require_resumable(run)
    wishes = {"recipe": recipe_name, "backend": backend or os.environ.get("KERAS_BACKEND"), **given}
    wishes["data"] = None if data is None or job.source is None else durable(data)
    _require_same_settings(job, record, wishes)
    say(f"backend {choose(record.get('backend'))}, going on with {run}")
    with download_bar() as progress:
        return run, origin_of(run).open_dataset(data, progress)


def _require_same_settings(job: Job, record: dict[str, Any], wishes: dict[str, Any]) -> None:
    was = job.model.to_json() | job.train.to_json() | {"data": job.source}
    was |= {name: record.get(name) for name in ("recipe", "backend")}
    for name, value in wishes.items():
        if value is not None and value != was.get(name):
            raise UsageError(
                f"{name.replace('_', '-')} is {value}; expected {was.get(name)} as when the run began: "
                "leave it out, or start a new run without --resume"
            )


def _carry_out(
    run: "Run", dataset: "Dataset", max_minutes: float | None, track: list[str]
) -> "tuple[dict[str, Any], Tracking]":
    from cifarnet.training.interrupt import stop_on_signal
    from cifarnet.training.tracking import Tracking
    from cifarnet.training.train import carry_out

    with stop_on_signal() as stop, TrainingDisplay() as display:
        limit = math.inf if max_minutes is None else max_minutes
        tracking = Tracking(track, run, display, display.say)
        return carry_out(run, dataset, tracking, stop=lambda: _announced(stop, display), max_minutes=limit), tracking


def _announced(stop: "StopRequest", display: TrainingDisplay) -> bool:
    if stop:
        display.say("stopping: saving, then scoring the best weights so far")
    return bool(stop)


def _draw(run: "Run", best_epoch: int | None) -> None:
    history = run.read_history()
    if history:
        from cifarnet.report import draw_curves

        draw_curves(history, best_epoch, run.path / "curves.png")


STOPPED = {
    "patience": "the validation loss stopped improving",
    "epochs": "the last epoch is done",
    "interrupted": "interrupted",
    "nan": "the loss is not a number",
    "time limit": "the time limit is reached",
}
"""Why training stopped, for people."""


def _say_result(run: "Run", record: dict[str, Any]) -> None:
    say("")
    say(f"Stopped after epoch {record['epochs']}: {STOPPED[record['why_stopped']]}.")
    if record["best_epoch"]:
        metrics = record["metrics"]
        say(
            f"Best epoch {record['best_epoch']}: validation accuracy {100 * metrics['validation']['accuracy']:.2f} %, "
            f"test accuracy {100 * metrics['test']['accuracy']:.2f} %."
        )
    else:
        say("No epoch has ended yet with a usable loss, so there are no best weights.")
    say(f"Everything is in {run}")
    name = shell_word(str(run))
    if record["status"] == "interrupted":
        say(f"Go on with:   cifarnet train --resume {name}")
    elif record["best_epoch"]:
        say(f"Next:         cifarnet export {name} --onnx")


def _exit_code(record: dict[str, Any]) -> int:
    if record["why_stopped"] == "interrupted":
        return INTERRUPTED
    if not record["best_epoch"] and record["status"] == "finished":
        raise RunError("training ended without a usable epoch; expected a finite loss: lower --learning-rate")
    return 0
