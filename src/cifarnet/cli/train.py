"""``cifarnet train``: train, resume or fine-tune the classifier."""

import math
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cifarnet import pretrained
from cifarnet.config import ClassWeights, Flip, OptimizerName, Precision, Schedule
from cifarnet.dataset import IMAGE_SIZE, NAMED_SOURCES
from cifarnet.errors import UsageError, shell_word
from cifarnet.interrupt import INTERRUPTED, StopRequest, stop_on_signal
from cifarnet.recipes import RECIPES, SETTINGS, Recipe, is_recipe_file, recipe_and_settings
from cifarnet.run.find import find_run
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord
from cifarnet.run.state import require_resumable

from .display import TrainingDisplay, be_silent, download_bar, is_silent, out_json, say, say_not_known
from .notes import draw_curves, exit_code, recipe_label, say_begun, say_dataset, say_result
from .options import DATA_HELP, IMAGE_SIZE_HELP, BackendOption, JsonOption, RunsOption, SkipBrokenOption
from .runs import trained_run

if TYPE_CHECKING:
    from cifarnet.dataset import Dataset
    from cifarnet.training.tracking import Tracking


def override(text: str) -> Any:
    """Return an option that overrides a setting of the recipe."""
    return typer.Option(help=text, rich_help_panel="Override the recipe")


def one_of(choices: Any) -> str:
    """Return the allowed values of a setting as a sentence."""
    return f"One of {', '.join(get_args(choices))}."


def command(
    context: typer.Context,
    recipe_name: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help=f"One of {', '.join(RECIPES)}, or a recipe file such as one written by `cifarnet tune`. --seed "
            "sets the random seed.",
            show_default="seed for cifar10 and synthetic, fast for a path",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, show_default="cifar10")] = None,
    image_size: Annotated[
        int | None, typer.Option(help=IMAGE_SIZE_HELP, show_default=f"{IMAGE_SIZE}; with --from that of the run")
    ] = None,
    backend: BackendOption = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Resume this run.")] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN|pretrained",
            help="Fine-tune: start from the convolutions of this run, or of the bundled CIFAR-10 classifier, with its "
            "recipe and new dense layers.",
        ),
    ] = None,
    skip_broken: SkipBrokenOption = False,
    keep_test_images: Annotated[
        bool,
        typer.Option(
            "--keep-test-images",
            help="Copy the test images (at most 64 MB) to the run folder, so that export does not need the dataset.",
        ),
    ] = False,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; continue with --resume.", min=0)
    ] = None,
    track: Annotated[list[str] | None, typer.Option(metavar="tensorboard", help="Also write TensorBoard logs.")] = None,
    workers: Annotated[int, typer.Option(help="Number of worker processes on this machine.", min=1)] = 1,
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
    class_weights: Annotated[
        str | None, override("Class weights of the training loss, for unbalanced classes. " + one_of(ClassWeights))
    ] = None,
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
    name = recipe_name
    if recipe_name is not None and is_recipe_file(recipe_name):
        named, changes = recipe_and_settings(recipe_name)
        name, given = named.name, changes | given
    from cifarnet.training.tracking import require_trackers  # imports numpy, which --help does not need

    require_trackers(track or ())
    if warm_start is not None and resume is not None:
        raise UsageError("--from and --resume were both given; expected one of them: leave one out")
    if warm_start is not None and data is None:
        raise UsageError("--from was given without --data; expected the images to train on: add --data")
    if resume is not None and (skip_broken or keep_test_images):
        option = "--skip-broken" if skip_broken else "--keep-test-images"
        raise UsageError(f"{option} and --resume were both given; expected it when the run begins: leave it out")
    if workers > 1:
        _start_workers(workers, backend, None if resume is None else find_run(runs, resume))
    if resume is None:
        origin = None
        if warm_start is not None:
            origin = Run(pretrained.FOLDER) if warm_start == pretrained.NAME else trained_run(runs, warm_start)
        data = data or "cifar10"
        settings = _settings(name, origin, given, default="seed" if data in NAMED_SOURCES else "fast")
        label = recipe_label(recipe_name) if recipe_name else settings.name
        choices: dict[str, Any] = {"skip_broken": skip_broken, "keep_test_images": keep_test_images, "label": label}
        run, dataset = _begin(settings, origin, given, data, image_size, backend, runs, **choices)
    else:
        run, dataset = _reopen(resume, name, data, backend, runs, {**given, "image_size": image_size})
    tracking = _train(run, dataset, max_minutes, track or [])
    record = run.record
    say_result(run, record)
    if is_silent():
        sys.exit(exit_code(record))
    try:
        draw_curves(run, record)
        tracking.finish(record)
    finally:
        if as_json:
            out_json(record.to_json() | {"run": str(run)})
    sys.exit(exit_code(record))


def _start_workers(count: int, backend: str | None, resumed: Run | None) -> None:
    """Run this command in ``count`` processes and exit with their exit code, unless this process is one of them."""
    from cifarnet.backends import choose
    from cifarnet.training import launch

    chosen = choose(backend if resumed is None else resumed.record.backend)
    started = launch.workers_started(chosen)
    if started == 1:
        code = launch.start_workers(count, chosen, ["-m", "cifarnet", *sys.argv[1:]])
        if code == -signal.SIGTERM:  # Python prints nothing then
            say("interrupted")
            code = INTERRUPTED
        sys.exit(code)
    if started != count:
        raise UsageError(f"--workers is {count}; expected {started}, as the launcher started: leave --workers out")


def _join_workers() -> None:
    """Join the other workers; then only the first one prints, except for errors."""
    from cifarnet.training.launch import join

    if not join().is_first:
        be_silent()


def _settings(name: str | None, origin: Run | None, given: dict[str, Any], default: str) -> Recipe:
    if origin is None:
        return recipe_and_settings(name or default)[0].changed(given)
    from cifarnet.training.warm_start import recipe_of  # imports numpy, which --help does not need

    found = recipe_of(origin)
    if name not in (None, found.name):
        raise UsageError(f"--recipe is {name}; expected {found.name}, the recipe of {origin}: leave --recipe out")
    return found.changed(given)


def _begin(
    settings: Recipe,
    origin: Run | None,
    given: Collection[str],
    source: str,
    image_size: int | None,
    backend: str | None,
    runs: Path,
    *,
    skip_broken: bool,
    keep_test_images: bool,
    label: str,
) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose
    from cifarnet.data import hold_out_of
    from cifarnet.training.warm_start import warm_start_from

    if "dropout" in given and not settings.model.dense_units:
        raise UsageError(
            f"--dropout is {settings.model.dropout}, but the network has no hidden dense layers; expected no "
            "--dropout: leave it out, or use another recipe"
        )
    warm_start = None if origin is None else warm_start_from(origin)
    choose(backend)
    _join_workers()
    say(f"backend {choose()}, recipe {label}, data {source}")
    if warm_start is not None:
        say(f"starting from the convolutions of {warm_start.run}")
        if warm_start.seen is None:
            say_not_known(warm_start.run)
    dataset = _opened(source, settings, origin, image_size, skip_broken=skip_broken)
    adapted = settings.for_dataset(dataset, given)
    say_dataset(dataset, hold_out_of(dataset, settings.train), settings, adapted)
    if warm_start is not None and adapted.model.filters != settings.model.filters:
        say(f"note: {warm_start.run} has {len(settings.model.filters)} blocks: those after them start untrained")
    from cifarnet.training.begin import begin  # Keras, now that its framework is chosen

    run = begin(adapted, dataset, runs, warm_start=warm_start, keep_test_images=keep_test_images)
    say_begun(run, dataset)
    return run, dataset


def _opened(
    source: str, settings: Recipe, origin: Run | None, image_size: int | None, *, skip_broken: bool
) -> "Dataset":
    from cifarnet.data import load_dataset

    seed, size = settings.train.seed, IMAGE_SIZE
    if origin is not None:  # with another seed its test images would now be trained on
        recorded = origin.record.data
        seed, size = seed if recorded.split_seed is None else recorded.split_seed, recorded.image_size
    size = size if image_size is None else image_size
    with download_bar() as progress:
        return load_dataset(source, seed=seed, image_size=size, progress=progress, skip_broken=skip_broken)


def _reopen(
    name: str, recipe_name: str | None, data: str | None, backend: str | None, runs: Path, given: dict[str, Any]
) -> "tuple[Run, Dataset]":
    from cifarnet.backends import choose

    run = find_run(runs, name)
    record = run.record
    require_resumable(run)
    _require_same_backend(run, record.backend, backend)
    _require_same_settings(record, {"recipe": recipe_name, **given})
    choose(record.backend)
    _join_workers()
    say(f"backend {choose()}, resuming {run}")
    with download_bar() as progress:
        return run, record.origin.load_dataset(data, progress)


def _require_same_backend(run: Run, was: str, option: str | None) -> None:
    asked = option or os.environ.get("KERAS_BACKEND") or was
    if asked != was:
        raise UsageError(
            f"{'--backend' if option else 'KERAS_BACKEND'} is {asked}; expected {was} as when the run began: resume it "
            f"with `cifarnet train --resume {shell_word(str(run))} --backend {was}`"
        )


def _require_same_settings(record: RunRecord, requested: dict[str, Any]) -> None:
    was = record.model.to_json() | record.training | {"recipe": record.recipe, "image_size": record.data.image_size}
    was["class_weights"] = record.train.class_weights
    for name, value in requested.items():
        if value is not None and value != was.get(name):
            raise UsageError(
                f"{name.replace('_', '-')} is {value}; expected {was.get(name)} as when the run began: "
                "leave it out, or start a new run without --resume"
            )


def _train(run: Run, dataset: "Dataset", max_minutes: float | None, track: list[str]) -> "Tracking":
    from cifarnet.training.tracking import Tracking
    from cifarnet.training.train import resume

    with stop_on_signal() as stop, TrainingDisplay() as display:
        limit = math.inf if max_minutes is None else max_minutes
        tracking = Tracking([] if is_silent() else track, run, display, display.say)
        resume(run, dataset, observer=tracking, stop=lambda: _announced(stop, display), max_minutes=limit)
    return tracking


def _announced(stop: StopRequest, display: TrainingDisplay) -> bool:
    if stop:
        display.say("stopping: saving, then evaluating the best weights so far")
    return bool(stop)
