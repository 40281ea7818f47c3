"""A whole training from its settings to its record, so that whoever has the record can do it again."""

import hashlib
import math
import platform
import shutil
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import keras
import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import HoldOut, evenly_chosen, hold_out_of
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import ConfigError, DataError, RunError
from cifarnet.evaluation.calibration import calibrate
from cifarnet.evaluation.scoring import Predictor, evaluate, predict, with_tta
from cifarnet.interruption import cleanup_on_interrupt
from cifarnet.model.network import build_model, load_features, load_weights, predictor, whiten
from cifarnet.run.folder import Run, create_run, finish_pointing_latest, point_latest
from cifarnet.run.job import Job, require_outside
from cifarnet.run.record import Calibration, DataRecord, HoldOutRecord, Machine, Metrics, RecordedScore, RunRecord
from cifarnet.run.state import best_epoch_of, require_resumable, require_weights, weights_digest
from cifarnet.system import processor, usable_cores, versions

from .loop import Outcome, train
from .observer import Observer
from .seen import count_seen, digests, write_seen
from .warm_start import WarmStart, require_unseen, warm_start_of

WHITENING_IMAGES = 5000
"""At most so many training images tell how patches are to be whitened."""


def start(job: Job, dataset: Dataset, root: Path, *, warm_start: WarmStart | None = None) -> Run:
    """Make the folder of a new run below ``root`` and write down what is to be done.

    The convolutions of ``warm_start`` are trained further; the dense layers start anew. The folder keeps a copy of the
    weights. Raises ``ConfigError`` and ``DataError`` when settings and data do not fit, or would test by images that
    the weights were trained on, ``ModelError`` when these are not those of ``job.model`` or cannot be read, and
    ``RunError`` when the folder cannot be written or would lie among the images; then nothing is made.
    """
    _require_fitting(job.model, job.train, dataset)
    require_outside(root, dataset.source, "--runs")
    now, parts = datetime.now().astimezone(), hold_out_of(dataset, job.train)
    record, seen = _first_record(job, dataset, parts, now), [digests(dataset.train.images)]
    if copies := count_seen(dataset.test.images, seen[0]):
        raise DataError(
            f"{copies} of the {len(dataset.test)} test images of {dataset.name} have the pixels of training images; "
            "expected none, since their accuracy would say nothing: remove the copies from one of the splits"
        )
    if warm_start is not None:
        require_unseen(warm_start, dataset, parts, record.hold_out.fingerprint)
        load_features(build_model(job.model), warm_start.weights)  # raises unless they fit
        weights = warm_start.weights.read_bytes()
        record = replace(record, warm_start=warm_start.recorded(weights))
        seen = [] if warm_start.seen is None else [*seen, warm_start.seen]
    run = create_run(root, job.recipe, choose(), now)
    with cleanup_on_interrupt(partial(shutil.rmtree, run.path)):
        try:
            with run.locked():  # what cannot be locked cannot be trained: that is told before `latest` points to it
                if warm_start is not None:
                    write_atomically(run.start_weights, weights)
                if seen:
                    write_seen(run, np.concatenate(seen))
                run.write_record(record)
        except RunError:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
    point_latest(run)
    return run


def carry_out(
    run: Run,
    dataset: Dataset,
    observer: Observer,
    *,
    stop: Callable[[], bool] = lambda: False,
    max_minutes: float = math.inf,
) -> RunRecord:
    """Train what ``run`` says, from its newest checkpoint if it has one, and return the finished record.

    The test images are read once, after training, to score the best weights. Raises ``RunError`` when another process
    has the run, when it came to its end before, and when ``dataset`` or the weights to start from are not those that it
    began with; ``CheckpointError`` for a damaged checkpoint.
    """
    with run.locked():
        require_resumable(run)
        record = run.read_record()
        job = record.job
        _require_same_backend(run, record.backend)
        require_same_data(record.data, dataset)
        finish_pointing_latest(run)
        _require_fitting(job.model, job.train, dataset)
        parts = hold_out_of(dataset, job.train)
        _require_same_division(run, record.machine, _machine(job, len(parts.train)))
        model = initial_model(job, dataset.train, parts)
        warm_start = warm_start_of(run)
        if warm_start is not None:
            load_features(model, warm_start.weights)
        # Only now: what is refused before keeps the results of an interrupted training.
        record = replace(record.without_results(), status="running")
        run.write_record(record)
        outcome = train(model, dataset.train, parts, job, run, observer, stop=stop, max_minutes=max_minutes)
        record = _with_result(record, outcome)
        if outcome.best_epoch:
            record = replace(
                record,
                calibration=_calibration(predictor(model), dataset, parts),
                metrics=replace(record.metrics, test=RecordedScore(**asdict(evaluate(predictor(model), dataset.test)))),
                weights_sha256=weights_digest(run),
            )
        run.write_record(record)
        return record


def initial_model(job: Job, split: Split, parts: HoldOut) -> keras.Model:
    """Return the network of ``job`` with the weights that its first step begins from, unless it starts from a run."""
    model = build_model(job.model, seed=job.train.seed)
    if job.model.whitening:
        # Spread over all of them, so that every class of a sorted folder is among them.
        whiten(model, job.model, split.images[evenly_chosen(parts.train, WHITENING_IMAGES)])
    return model


def calibration_of(
    run: Run, model: keras.Model, dataset: Dataset, *, flip: bool = False, epoch: int | None = None
) -> Calibration:
    """Return the calibration of ``run`` as its record has it: temperature, coverage, abstention.

    With ``flip`` it is that of the mean over an image and its mirror image.

    Where the record lacks it, it is fitted with ``model``, which holds the run's best weights, and written down unless
    the training still goes on, so that every export has the same. With ``epoch``, that of the weights of ``model``, a
    record of other weights counts as one that lacks it. Raises ``RunError`` when ``dataset`` is not the one of the run.
    """
    record = run.read_record() if epoch is None else record_of(run, epoch)
    if (recorded := record.calibration_for(flip=flip)) is not None:
        return recorded
    require_same_data(record.data, dataset)
    forward = with_tta(predictor(model)) if flip else predictor(model)
    found = _calibration(forward, dataset, hold_out_of(dataset, record.train))
    if record.status != "running":
        with suppress(RunError, OSError), run.locked():  # a folder that only can be read is no obstacle
            now = run.read_record()
            if now.best_epoch == record.best_epoch:
                run.write_record(replace(now, flip_calibration=found) if flip else replace(now, calibration=found))
    return found


def _calibration(forward: Predictor, dataset: Dataset, parts: HoldOut) -> Calibration:
    logits = predict(forward, dataset.train.images[parts.validation])
    return calibrate(logits, dataset.train.labels[parts.validation])


@dataclass(frozen=True)
class Best:
    """The network of a run with the weights of its best epoch, and that epoch."""

    model: keras.Model
    epoch: int | None
    """Counted from 1; None where neither weights nor record and history tell it."""


def load_best(run: Run) -> keras.Model:
    """Return the network of ``run`` with the weights of its best epoch. Raises ``RunError`` and ``ModelError``."""
    return load_best_and_epoch(run).model


def load_best_and_epoch(run: Run) -> Best:
    """Return what ``load_best`` does, and the epoch of those very weights, even while training replaces them."""
    require_weights(run)
    model = build_model(run.read_record().model)
    epoch = load_weights(model, run.best_weights)
    return Best(model, best_epoch_of(run) if epoch is None else epoch)


def record_of(run: Run, epoch: int | None) -> RunRecord:
    """Return the record of ``run`` for its weights of ``epoch``: without the results of a training that went on."""
    record = run.read_record()
    return record if record.best_epoch == epoch else replace(record.without_results(), best_epoch=epoch)


def _require_fitting(config: ModelConfig, train: TrainConfig, dataset: Dataset) -> None:
    classes, shape = len(dataset.labels), dataset.train.images.shape[1:]
    if (classes, shape) != (config.classes, config.image_shape):
        raise ConfigError(
            f"{dataset.name} has {classes} classes of {shape} images; expected {config.classes} of "
            f"{config.image_shape}: set classes and image_shape of the ModelConfig"
        )
    for name in ("translation", "cutout"):
        if getattr(train, name) >= min(shape[:2]):
            raise ConfigError(
                f"{name} is {getattr(train, name)} pixels, the images are {shape[0]}x{shape[1]}; expected less than "
                "either side"
            )


def _require_same_backend(run: Run, backend: str) -> None:
    if backend != choose():
        raise RunError(
            f"this process runs on {choose()}; expected {backend}, on which {run} began: "
            f"start a new process with KERAS_BACKEND={backend}"
        )


def _require_same_division(run: Run, began: Machine, now: Machine) -> None:
    # Another division rounds in another way. With other cores it cannot be helped, and nothing is promised.
    if began.cores == now.cores and began.parts not in (None, now.parts):
        raise RunError(
            f"this process divides a batch into {now.parts} part(s); expected {began.parts}, as when {run} "
            "began: resume it as it began, by the command or from Python (there with or without "
            "cifarnet.prepare_process()), with the same thread settings"
        )


def require_same_data(data: DataRecord, dataset: Dataset) -> None:
    """Raise ``RunError`` unless ``dataset`` is the one that a run records as ``data``."""
    if data.fingerprint != dataset.fingerprint:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {data.fingerprint[:12]} as when the "
            f"run began: restore {data.source or data.name}, name its place with --data if it moved, or start a new run"
        )
    if data.labels != dataset.labels:
        raise RunError(
            f"run.json has the classes {', '.join(data.labels)}; expected {', '.join(dataset.labels)}, as in its data "
            "set: restore run.json or start a new run"
        )


def _first_record(job: Job, dataset: Dataset, parts: HoldOut, now: datetime) -> RunRecord:
    return RunRecord(
        status="running",
        recipe=job.recipe,
        backend=choose(),
        seed=job.train.seed,
        started=now.astimezone(UTC).replace(microsecond=0),
        model=job.model,
        train=job.train,
        data=DataRecord.of(job, dataset),
        hold_out=_hold_out_record(parts),
        versions=versions(),
        machine=_machine(job, len(parts.train)),
    )


def _hold_out_record(parts: HoldOut) -> HoldOutRecord:
    digest = hashlib.sha256(parts.train.tobytes() + parts.validation.tobytes()).hexdigest()
    return HoldOutRecord(train=len(parts.train), validation=len(parts.validation), fingerprint=digest)


def _machine(job: Job, images: int) -> Machine:
    return Machine(
        system=platform.system(),
        processor=processor(),
        cores=usable_cores(),
        devices=tuple(adapter().devices()),
        parts=len(adapter().micro_batches(min(job.train.batch_size, images), job.model.ghost_batch)),
    )


def _with_result(record: RunRecord, outcome: Outcome) -> RunRecord:
    best = outcome.history[outcome.best_epoch - 1] if outcome.best_epoch else None
    validation = None if best is None else RecordedScore(loss=best.validation_loss, accuracy=best.validation_accuracy)
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
