"""``cifarnet train``: train, resume or fine-tune the classifier."""

import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cifarnet.config import Flip, ModelConfig, OptimizerName, Precision, Schedule, TrainConfig
from cifarnet.dataset import durable
from cifarnet.errors import RunError, UsageError, shell_word
from cifarnet.interruption import INTERRUPTED
from cifarnet.recipes import RECIPES, Recipe, recipe
from cifarnet.run.folder import Run, find_run
from cifarnet.run.job import Job
from cifarnet.run.state import require_resumable

from .display import TrainingDisplay, download_bar, out, say, say_not_known, shortened
from .options import DATA, RUN, BackendOption, JsonOption, RunsOption, filled
from .runs import trained_run

if TYPE_CHECKING:
    from cifarnet.data import HoldOut
    from cifarnet.dataset import Dataset
    from cifarnet.run.record import RunRecord
    from cifarnet.training.interrupt import StopRequest
    from cifarnet.training.tracking import Tracking
    from cifarnet.training.warm_start import WarmStart

SETTINGS = frozenset(field.name for kind in (ModelConfig, TrainConfig) for field in fields(kind))
"""Options that override a field of the recipe."""
MOST_NAMES = 12
"""Maximum class names printed before training."""


def override(text: str) -> Any:
    """Return an option that overrides a setting of the recipe."""
    return typer.Option(help=text, show_default=False, rich_help_panel="Override the recipe")


def one_of(choices: Any) -> str:
    """Return the allowed values of a setting as a sentence."""
    return f"One of {', '.join(get_args(choices))}."


def command(
    context: typer.Context,
    recipe_name: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help=f"One of {', '.join(RECIPES)}.",
            show_default="seed",
            parser=filled("--recipe", "its name"),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="cifar10, synthetic, a CIFAR-10 archive or a folder of class folders.",
            show_default="cifar10",
            parser=filled("--data", DATA),
        ),
    ] = None,
    backend: BackendOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Resume this run.", show_default=False, parser=filled("--resume", RUN)),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Fine-tune: start from the convolutions of this run, with its recipe and new dense layers.",
            show_default=False,
            parser=filled("--from", RUN),
        ),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; continue with --resume.", min=0)
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="tensorboard", help="Also write TensorBoard logs.", show_default=False),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    seed: Annotated[int | None, override("Random seed.")] = None,
    epochs: Annotated[int | None, override("Maximum number of epochs.")] = None,
    patience: Annotated[int | None, override("Early stopping: epochs without improvement.")] = None,
    min_delta: Annotated[float | None, override("Early stopping: minimum decrease of the validation loss.")] = None,
    batch_size: Annotated[int | None, override("Images per training step.")] = None,
    validation_fraction: Annotated[float | None, override("Fraction of training images for validation.")] = None,
    optimizer: Annotated[str | None, override(one_of(OptimizerName))] = None,
    learning_rate: Annotated[float | None, override("Peak learning rate.")] = None,
    schedule: Annotated[str | None, override(one_of(Schedule))] = None,
    schedule_epochs: Annotated[int | None, override("Length of the schedule in epochs; 0 for all.")] = None,
    label_smoothing: Annotated[float | None, override("Label smoothing, 0 to 1.")] = None,
    flip: Annotated[str | None, override("Horizontal flip augmentation. " + one_of(Flip))] = None,
    translation: Annotated[int | None, override("Random translation augmentation: maximum shift in pixels.")] = None,
    cutout: Annotated[int | None, override("Cutout augmentation: side of the square in pixels.")] = None,
    precision: Annotated[str | None, override("Compute dtype of convolutions. " + one_of(Precision))] = None,
    weight_decay: Annotated[float | None, override("Decoupled weight decay, multiplied by the learning rate.")] = None,
    dropout: Annotated[float | None, override("Dropout rate of the dense layers, 0 to 1.")] = None,
) -> None:
    """Train, resume or fine-tune the classifier.

    Without options, trains the recipe `seed` on CIFAR-10.
    """
    given = {name: value for name, value in context.params.items() if name in SETTINGS and value is not None}
    from cifarnet.training.tracking import require_trackers  # imports numpy, which --help does not need

    require_trackers(track or ())
    if warm_start is not None and data is None and resume is None:
        raise UsageError("--from was given without --data; expected the images to train on: add --data")
    if resume is None:
        job, weights = _new_job(recipe_name, warm_start, runs, given)
        run, dataset = _start(job, weights, given, data or "cifar10", backend, runs)
    elif warm_start is not None:
        raise UsageError("--from and --resume were both given; expected one of them: leave one out")
    else:
        run, dataset = _reopen(resume, recipe_name, data, backend, runs, given)
    record, tracking = _train(run, dataset, max_minutes, track or [])
    _say_result(run, record)
    try:
        _draw_curves(run, record.best_epoch)
        tracking.finish(record)
    finally:
        if as_json:
            out(json.dumps(record.to_json() | {"run": str(run)}, indent=2))
    sys.exit(_exit_code(record))


def _new_job(
    name: str | None, warm_start: str | None, runs: Path, given: dict[str, Any]
) -> "tuple[Job, WarmStart | None]":
    """Return the job that the options describe, before it is adapted to the images, and the weights to start from."""
    if warm_start is None:
        settings = recipe(name or "seed").changed(given)
        return Job(recipe=name or "seed", model=settings.model, train=settings.train), None
    from cifarnet.training.warm_start import warm_start_from  # imports numpy, which --help does not need

    run = trained_run(runs, None if warm_start == "latest" else warm_start)
    job = run.read_record().job
    if name not in (None, job.recipe):
        raise UsageError(f"--recipe is {name}; expected {job.recipe}, the recipe of {run}: leave --recipe out")
    # The run's own settings may have been adapted to other images. Its validation split must stay unseen.
    train = RECIPES[job.recipe].train if job.recipe in RECIPES else job.train
    train = replace(train, seed=job.train.seed, validation_fraction=job.train.validation_fraction)
    settings = Recipe(model=job.model, train=train).changed(given)
    return Job(recipe=job.recipe, model=settings.model, train=settings.train), warm_start_from(run)


def _start(
    job: Job, warm_start: "WarmStart | None", given: Collection[str], source: str, backend: str | None, runs: Path
) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose
    from cifarnet.data import hold_out_of, load_dataset

    if "dropout" in given and not job.model.dense_units:
        raise UsageError(
            f"--dropout is {job.model.dropout}, but the network has no hidden dense layers; expected no --dropout: "
            "leave it out, or use another recipe"
        )
    say(f"backend {choose(backend)}, recipe {job.recipe}, data {source}")
    if warm_start is not None:
        say(f"starting from the convolutions of {warm_start.run}")
        if warm_start.seen is None:
            say_not_known(warm_start.run)
    with download_bar() as progress:
        dataset = load_dataset(source, seed=job.train.seed, progress=progress)
    parts = hold_out_of(dataset, job.train)
    train = Recipe(model=job.model, train=job.train).adapted_to(len(parts.train), given).train
    for line in wrap(_contents(dataset), shutil.get_terminal_size().columns, subsequent_indent="  "):
        say(line)
    for note in (*_changes(job.train, train, len(parts.train)), *_warnings(dataset, parts, train.batch_size)):
        say(note)
    from cifarnet.training.train import start  # Keras, now that its framework is chosen

    model = replace(job.model, classes=len(dataset.labels), image_shape=dataset.train.images.shape[1:])
    return start(replace(job, model=model, train=train), dataset, runs, warm_start=warm_start), dataset


def _contents(dataset: "Dataset") -> str:
    names = ", ".join(map(shortened, dataset.labels[:MOST_NAMES])) + (", …" if len(dataset.labels) > MOST_NAMES else "")
    sizes = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    return f"{sizes} of {len(dataset.labels)} classes: {names}"


def _changes(wanted: TrainConfig, train: TrainConfig, images: int) -> Iterator[str]:
    """Yield a note if settings were adapted to the number of images or of epochs."""
    was, now = wanted.to_json(), train.to_json()
    changed = [name for name in now if now[name] != was[name]]
    if changed:
        why = f"{train.epochs} epochs" if set(changed) == {"patience"} else f"{images:,} images"
        listed = (f"{name.replace('_', ' ')} {was[name]} -> {now[name]}" for name in changed)
        yield f"note: for {why}: {', '.join(listed)}"


def _warnings(dataset: "Dataset", parts: "HoldOut", batch_size: int) -> Iterator[str]:
    """Yield a note for each setting that is valid but unusual for so few images."""
    if batch_size > len(parts.train):
        yield f"note: batch size {batch_size:,} is larger than the training split of {len(parts.train):,} images"
    held_out = Counter(dataset.train.labels[parts.validation].tolist())
    alone = [dataset.labels[label] for label, count in sorted(held_out.items()) if count == 1]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        yield f"note: {shortened(alone[0])}{more} with a single validation image: the validation loss will be noisy"


def _reopen(
    name: str, recipe_name: str | None, data: str | None, backend: str | None, runs: Path, given: dict[str, Any]
) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose

    run = find_run(runs, None if name == "latest" else name)
    record = run.read_record()
    require_resumable(run)
    requested = {"recipe": recipe_name, "backend": backend or os.environ.get("KERAS_BACKEND"), **given}
    requested["data"] = None if data is None or record.data.source is None else durable(data)
    _require_same_settings(record, requested)
    say(f"backend {choose(record.backend)}, resuming {run}")
    with download_bar() as progress:
        return run, record.origin.load_dataset(data, progress)


def _require_same_settings(record: "RunRecord", requested: dict[str, Any]) -> None:
    was = record.model.to_json() | record.train.to_json()
    was |= {"data": record.data.source, "recipe": record.recipe, "backend": record.backend}
    for name, value in requested.items():
        if value is not None and value != was.get(name):
            raise UsageError(
                f"{name.replace('_', '-')} is {value}; expected {was.get(name)} as when the run began: "
                "leave it out, or start a new run without --resume"
            )


def _train(run: "Run", dataset: "Dataset", max_minutes: float | None, track: list[str]) -> "tuple[RunRecord, Tracking]":
    from cifarnet.training.interrupt import stop_on_signal
    from cifarnet.training.tracking import Tracking
    from cifarnet.training.train import carry_out

    with stop_on_signal() as stop, TrainingDisplay() as display:
        limit = math.inf if max_minutes is None else max_minutes
        tracking = Tracking(track, run, display, display.say)
        return carry_out(run, dataset, tracking, stop=lambda: _announced(stop, display), max_minutes=limit), tracking


def _announced(stop: "StopRequest", display: TrainingDisplay) -> bool:
    if stop:
        display.say("stopping: saving, then evaluating the best weights so far")
    return bool(stop)


def _draw_curves(run: "Run", best_epoch: int | None) -> None:
    history = run.read_history()
    if history:
        from cifarnet.report import draw_curves

        draw_curves(history, best_epoch, run.path / "curves.png")


STOPPED = {
    "patience": "the validation loss stopped improving",
    "epochs": "the last epoch is done",
    "interrupted": "interrupted",
    "nan": "the loss is NaN",
    "time limit": "the time limit is reached",
}
"""Reasons to stop as they are printed, by their name in run.json."""


def _say_result(run: "Run", record: "RunRecord") -> None:
    say("")
    say(f"Stopped after epoch {record.epochs}: {STOPPED[record.why_stopped or 'interrupted']}.")
    validation, test = record.metrics.validation, record.metrics.test
    if validation and test:
        say(
            f"Best epoch {record.best_epoch}: validation accuracy {100 * validation.accuracy:.2f}%, "
            f"test accuracy {100 * test.accuracy:.2f}%."
        )
    else:
        say("No epoch has finished with a finite loss, so there are no best weights.")
    say(f"Results are in {run}")
    if run.model.is_file():
        say(f"note: {run.model.name} and any report were made before: make them anew if the best epoch changed")
    name = shell_word(str(run))
    if record.status == "interrupted":
        say(f"Resume with:  cifarnet train --resume {name}")
    elif record.best_epoch:
        say(f"Next:         cifarnet export {name} --onnx")


def _exit_code(record: "RunRecord") -> int:
    if record.why_stopped == "interrupted":
        return INTERRUPTED
    if not record.best_epoch and record.status == "finished":
        raise RunError("training ended without an epoch of finite loss; expected one: lower --learning-rate")
    return 0
