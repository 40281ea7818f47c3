"""Train a run from its settings to its record, and resume it."""

import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import keras

from cifarnet import pretrained
from cifarnet.arguments import PATH, described, function, instance, number, takes
from cifarnet.backends import Workers, adapter, choose, default_settings
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import HoldOut, evenly_chosen
from cifarnet.data.image_facts import class_sizes, is_unequal
from cifarnet.dataset import DATASET, Dataset, Split
from cifarnet.errors import ConfigError, RunError, UsageError
from cifarnet.evaluation.scoring import Predictor, predict, score
from cifarnet.model.network import build_model, predictor, whiten
from cifarnet.model.weights import load_features
from cifarnet.recipes import Recipe, recipe_and_settings
from cifarnet.run.find import finish_pointing_latest
from cifarnet.run.folder import Run, weights_digest
from cifarnet.run.record import Machine, Metrics, RecordedScore, RunRecord
from cifarnet.run.state import require_resumable
from cifarnet.system import usable_cores

from .begin import begin, facts_of, require_fitting
from .best_weights import fit_calibration
from .checkpoint import checkpoint_of, settings_of
from .custom import customized, resumed
from .launch import after_joining, join, require_alike
from .loop import Outcome, Session
from .observer import Observer
from .same_data import same_hold_out
from .warm_start import recipe_of, warm_start_from, warm_start_of

WHITENING_IMAGES = 5000
"""Maximum number of training images that determine the whitening convolution."""


RUN = instance(Run, "a Run: pass cifarnet.find_run(...)")
STOP = function("a function without arguments that returns whether to stop")
MINUTES = number(0, "a number of minutes, 0 or more")


@takes(
    dataset=DATASET,
    recipe=instance(str, "the name of a recipe or a JSON file: its settings go into model_config and train_config"),
    runs=PATH,
    model_config=instance(ModelConfig, "a ModelConfig"),
    train_config=instance(TrainConfig, "a TrainConfig"),
    stop=STOP,
    max_minutes=MINUTES,
    keep_test_images=instance(bool, "True or False"),
)
@after_joining
@default_settings()
def train(
    dataset: Dataset,
    recipe: str = "fast",
    *,
    runs: str | Path = "runs",
    model_config: ModelConfig | None = None,
    train_config: TrainConfig | None = None,
    warm_start: Run | Literal["pretrained"] | None = None,
    optimizer: Any = None,
    loss: Any = None,
    observer: Observer | None = None,
    stop: Callable[[], bool] = lambda: False,
    max_minutes: float = math.inf,
    keep_test_images: bool = False,
) -> Run:
    """Train a network on ``dataset`` as the ``recipe`` says, in a new run folder below ``runs``, and return the run.

    ``recipe`` is a name, or a recipe file (JSON) such as one written by ``cifarnet tune``. By default its settings are
    adapted to the classes, the image shape and the number of images, as by the command ``cifarnet train``. A
    ``model_config`` or ``train_config`` is used unchanged. ``warm_start`` fine-tunes the convolutions of another run,
    or of the bundled CIFAR-10 classifier (``"pretrained"``); the validation split of that run is kept, and the recipe
    must be the same.

    ``optimizer``, a ``keras.optimizers.Optimizer``, replaces that of the recipe with its learning rate, schedule and
    weight decay; only its settings are used, not its state. ``loss`` replaces the cross-entropy and label smoothing in
    training and on the validation split: a ``keras.losses.Loss``, the name of one, or a function of ``y_true``, the
    labels (n,), and ``y_pred``, the probabilities (n, classes), that returns one value per image (n,). ``min_delta`` is
    then a fraction of the best loss so far.

    ``observer`` is called during and after each epoch; a ``ProgressPrinter()`` prints a line per epoch, and without an
    observer nothing is printed. Training stops early, and can be continued with ``resume``, when ``stop`` returns True
    (it is called every 750 images, or after each larger batch) or after ``max_minutes``. Several threads of a process
    train one after another. With ``keep_test_images`` the run folder gets the test images, at most 64 MB, so that
    ``export_run`` needs no dataset.

    Raises ``ConfigError`` and ``DataError`` if settings and data do not fit together, if test images are training
    images, or if ``warm_start`` was trained on test or validation images; ``RunError`` if the folder cannot be written;
    and ``UsageError`` if the test images to keep are larger than 64 MB. Raises ``ConfigError`` for an optimizer or a
    loss with options that would not behave here as in Keras.
    """
    _require_observer(observer)
    if warm_start == pretrained.NAME:
        warm_start = Run(pretrained.FOLDER)
    if not isinstance(warm_start, Run | None):
        raise UsageError(
            f"warm_start is {described(warm_start)}; expected a Run or {pretrained.NAME!r}: pass cifarnet.find_run(...)"
        )
    settings = _settings(dataset, recipe, model_config, train_config, warm_start)
    origin = None if warm_start is None else warm_start_from(warm_start)
    custom = customized(optimizer, loss, settings.model.classes)
    record = custom.record()
    run = begin(settings, dataset, Path(runs), warm_start=origin, custom=record, keep_test_images=keep_test_images)
    return resume(run, dataset, optimizer=optimizer, loss=loss, observer=observer, stop=stop, max_minutes=max_minutes)


def _require_observer(observer: Any) -> None:
    methods = ("on_progress", "on_epoch")
    if observer is not None and (
        isinstance(observer, type) or not all(callable(getattr(observer, name, None)) for name in methods)
    ):
        raise UsageError(
            f"observer is {described(observer)}; expected a cifarnet.Observer: derive a class with on_epoch, "
            "and pass an instance"
        )


def _settings(
    dataset: Dataset,
    name: str,
    model_config: ModelConfig | None,
    train_config: TrainConfig | None,
    warm_start: Run | None,
) -> Recipe:
    named, changes = recipe_and_settings(name)
    settings = named if warm_start is None else recipe_of(warm_start).changed(changes)
    if settings.name != named.name:
        raise ConfigError(
            f"the recipe is {named.name}; expected {settings.name}, the recipe of {warm_start}: name that one"
        )
    given = replace(settings, model=model_config or settings.model, train=train_config or settings.train)
    adapted = given.for_dataset(dataset, changes)
    return replace(adapted, model=model_config or adapted.model, train=train_config or adapted.train)


@takes(run=RUN, dataset=DATASET, stop=STOP, max_minutes=MINUTES)
@after_joining
@default_settings()
def resume(
    run: Run,
    dataset: Dataset,
    *,
    optimizer: Any = None,
    loss: Any = None,
    observer: Observer | None = None,
    stop: Callable[[], bool] = lambda: False,
    max_minutes: float = math.inf,
) -> Run:
    """Continue the training of ``run`` from its newest checkpoint, and return the run.

    ``dataset`` must be the one that the run began with; the other arguments are as in ``train``. An optimizer and a
    loss of Keras are recreated from the record of the run; only a class or a function of your own has to be passed
    again, with the same settings. On the same machine with the same packages the result is bit-identical to an
    uninterrupted run. The test split is evaluated once, at the end.

    Raises ``RunError`` if another process uses the run, if it has finished, for another dataset, backend or start
    weights, and if an optimizer or a loss is missing; ``ConfigError`` for another optimizer or loss;
    ``CheckpointError`` for lost or damaged checkpoints and for those of other settings.
    """
    _require_observer(observer)
    workers = join()
    _ = run.record  # before the lock, which would make the folder of a run that does not exist
    with run.locked() if workers.is_first else nullcontext():
        require_resumable(run)
        record = run.record
        settings = record.settings
        parts = _continued_hold_out(run, record, dataset, workers)
        if workers.is_first:
            finish_pointing_latest(run)
        custom = resumed(record.custom, optimizer, loss, settings.model.classes)
        checkpoint = checkpoint_of(run, settings_of(settings, custom.record(), parts))
        model = initial_model(settings, dataset.train, parts)
        warm_start = warm_start_of(run)
        if warm_start is not None:
            load_features(model, warm_start.weights)
        # Only now, so that a refused resume keeps the results of the interrupted training.
        record = _started(record, workers, dataset.source)
        if workers.is_first:
            run.write_record(record)
        session = Session(
            model,
            dataset.train,
            parts,
            settings,
            run,
            observer or Observer(),
            custom=custom,
            micro_batches=record.machine.parts,
            workers=workers,
        )
        if checkpoint is not None:
            session.restore(checkpoint)
        outcome = session.train(stop, max_minutes)
        record = _with_result(record, outcome)
        if outcome.best_epoch:
            record = _evaluated(record, predictor(model), dataset, parts, workers)
        if workers.is_first:
            digest = weights_digest(run) if outcome.best_epoch else None
            run.write_record(replace(record, weights_sha256=digest))
        workers.texts("written")  # no worker returns before the record is written
    return run


def _continued_hold_out(run: Run, record: RunRecord, dataset: Dataset, workers: Workers) -> HoldOut:
    """Return the validation split of ``run``, if backend, workers, images and threads allow to continue it."""
    _require_same_backend(run, record.backend)
    facts = facts_of(record.settings, dataset, record.custom)
    require_alike(workers, facts | {"parts": record.machine.parts, "threads": adapter().threads()})
    parts = same_hold_out(record, dataset, run)
    require_fitting(record.settings, dataset)
    _require_same_threads(run, record.machine)
    return parts


def _started(record: RunRecord, workers: Workers, source: str | None) -> RunRecord:
    """Return the record at the beginning of a session, with the current location of the images."""
    machine = replace(record.machine, workers=workers.count if workers.count > 1 else None)
    data = replace(record.data, source=source or record.data.source)
    return replace(record.without_results(), status="running", machine=machine, data=data)


def initial_model(settings: Recipe, split: Split, parts: HoldOut) -> keras.Model:
    """Return the network with its initial weights, before a warm start."""
    model = build_model(settings.model, seed=settings.train.seed)
    if settings.model.whitening:
        # Evenly chosen, so that every class of a sorted folder is among them.
        whiten(model, settings.model, split.images[evenly_chosen(parts.train, WHITENING_IMAGES)])
    return model


def _evaluated(record: RunRecord, forward: Predictor, dataset: Dataset, parts: HoldOut, workers: Workers) -> RunRecord:
    """Return ``record`` with the test score of the best weights and their calibration."""
    metrics = replace(record.metrics, test=_test_score(forward, dataset, workers))
    return replace(record, calibration=fit_calibration(forward, dataset, parts, workers), metrics=metrics)


def _test_score(forward: Predictor, dataset: Dataset, workers: Workers) -> RecordedScore:
    labels = dataset.test.labels
    logits = predict(forward, dataset.test.images, workers=workers)
    found = RecordedScore(**asdict(score(logits, labels)))
    if not is_unequal(class_sizes(dataset)):
        return found
    hits = logits.argmax(axis=1) == labels
    members = [hits[labels == label] for label in range(len(dataset.labels))]
    recall = tuple(float(each.mean()) if len(each) else None for each in members)
    known = [each for each in recall if each is not None]
    return replace(found, recall=recall, balanced_accuracy=statistics.fmean(known))


def _require_same_backend(run: Run, backend: str) -> None:
    if backend != choose():
        raise RunError(
            f"this process runs on {choose()}; expected {backend}, on which {run} began: "
            f"start a new process with KERAS_BACKEND={backend}"
        )


def _require_same_threads(run: Run, began: Machine) -> None:
    # Others round differently. With another number of cores it cannot be avoided, and nothing is promised.
    threads = adapter().threads()
    if began.cores == usable_cores() and began.threads not in (None, threads):
        raise RunError(
            f"this process computes with {threads} thread(s) per operation; expected {began.threads}, as when "
            f"{run} began: set {adapter().THREAD_VARIABLES[0]}={began.threads} in a new process"
        )


def _with_result(record: RunRecord, outcome: Outcome) -> RunRecord:
    best = outcome.history[outcome.best_epoch - 1] if outcome.best_epoch else None
    loss = record.custom.loss
    validation = None
    if best is not None:
        validation = RecordedScore(
            loss=best.validation_loss,
            accuracy=best.validation_accuracy,
            loss_function=None if loss is None else loss.name,
        )
    return replace(
        record,
        status="interrupted" if outcome.resumable else "finished",
        why_stopped=outcome.why_stopped,
        epochs=len(outcome.history),
        best_epoch=outcome.best_epoch or None,
        metrics=Metrics(validation=validation),
        elapsed_s=round(outcome.elapsed_s, 2),
        seconds_per_epoch=round(statistics.median(outcome.epoch_seconds), 2) if outcome.epoch_seconds else None,
    )
