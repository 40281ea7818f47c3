"""Begin a run: check settings and data, then create its folder."""

import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.backends import adapter, choose
from cifarnet.data import HoldOut, evenly_chosen, hold_out_of
from cifarnet.dataset import Dataset
from cifarnet.errors import ConfigError, DataError, listed
from cifarnet.recipes import Recipe
from cifarnet.run.custom import NO_CUSTOM_RECORD, CustomRecord
from cifarnet.run.find import create_run, point_latest
from cifarnet.run.folder import Run
from cifarnet.run.origin import DataRecord, require_outside
from cifarnet.run.record import HoldOutRecord, Machine, RunRecord
from cifarnet.system import processor, usable_cores, versions

from .import_weights import start_weights
from .kept_images import digest_of, require_keepable, write_test_images
from .launch import join, require_alike
from .same_data import write_image_lists
from .seen import Digests, digests, write_seen
from .warm_start import WarmStart, require_unseen

STATISTICS_IMAGES = 500
"""Maximum number of training images that determine the statistics of batch normalization of an imported model."""


def begin(
    settings: Recipe,
    dataset: Dataset,
    root: Path,
    *,
    warm_start: WarmStart | None = None,
    custom: CustomRecord = NO_CUSTOM_RECORD,
    parts: int | None = None,
    keep_test_images: bool = False,
) -> Run:
    """Create the folder of a new run below ``root``, with its record, ready for ``resume``.

    A batch is divided into ``parts`` micro-batches; see ``machine_of``. ``custom`` replaces the optimizer and the loss
    of the recipe in the record. With ``warm_start``, the run gets a copy of those weights, whose convolutions it starts
    from. With ``keep_test_images``, it gets a copy of the test images, so that it can be exported without the dataset.

    With several workers, the first one creates the folder. If ``torchrun`` restarted the workers, the run that they
    began before is returned.

    Raises ``ConfigError`` and ``DataError`` if settings and data do not fit together, or if test or validation images
    were trained on before; ``ModelError`` for weights of another network; and ``RunError`` for a folder that cannot be
    written or lies among the images. Then nothing is created.
    """
    workers = join()
    require_alike(workers, facts_of(settings, dataset, custom))
    if begun := workers.recall():
        return Run(Path(begun))
    require_fitting(settings, dataset)
    require_outside(root, dataset.source, "--runs, in Python runs=")
    if keep_test_images:
        require_keepable(dataset)
    now, hold_out = datetime.now().astimezone(), hold_out_of(dataset, settings.train)
    seen = digests(dataset.train.images)
    _require_no_copies(dataset, seen)
    data = replace(DataRecord.of(dataset), test_digest=digest_of(dataset.test) if keep_test_images else None)
    machine = machine_of(settings, len(hold_out.train), parts, workers.count)
    record = _first_record(settings, custom, data, hold_out, seen, now, machine)
    known: Digests | None = seen
    weights = b""
    if warm_start is not None:
        require_unseen(warm_start, dataset, hold_out)
        images = dataset.train.images[evenly_chosen(hold_out.train, STATISTICS_IMAGES)]
        weights = start_weights(warm_start.weights, settings.model, images)  # raises unless they fit
        record = replace(record, warm_start=warm_start.recorded(weights, settings.model.image_shape))
        known = None if warm_start.seen is None else np.concatenate([seen, warm_start.seen])

    def fill(run: Run) -> None:
        with run.locked():  # a run that cannot be locked cannot be trained
            if weights:
                write_atomically(run.start_weights, weights)
            if known is not None:
                write_seen(run, known)
            write_image_lists(run, dataset, seen)
            if keep_test_images:
                write_test_images(run, dataset)
            run.write_record(record)

    if workers.is_first:
        run = create_run(root, settings.name, choose(), now, fill)
        point_latest(run)
        workers.remember(str(run))
    return Run(Path(workers.texts(str(run) if workers.is_first else "")[0]))


def require_fitting(settings: Recipe, dataset: Dataset) -> None:
    """Raise ``ConfigError`` unless ``settings`` can be trained on ``dataset``, ``DataError`` without test images."""
    if not len(dataset.test):
        raise DataError(f"{dataset.name} has no test images; expected some to evaluate the trained model on: add them")
    config, train = settings.model, settings.train
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


def _require_no_copies(dataset: Dataset, seen: Digests) -> None:
    copies = np.flatnonzero(np.isin(digests(dataset.test.images), seen))
    if not len(copies):
        return
    names = f": {listed(dataset.test.files[index] for index in copies)}" if dataset.test.files else ""
    raise DataError(
        f"{len(copies)} of the {len(dataset.test)} test images of {dataset.name} have the pixels of training images"
        f"{names}; expected none, since their accuracy would say nothing: remove them or their copies"
    )


def facts_of(settings: Recipe, dataset: Dataset, custom: CustomRecord) -> dict[str, Any]:
    """Return what all workers of a training must have in common, by name."""
    given = {"images": dataset.fingerprint[:12], "recipe": settings.name, "custom": repr(custom)}
    return given | versions() | settings.model.to_json() | settings.train.to_json()


def _first_record(
    settings: Recipe,
    custom: CustomRecord,
    data: DataRecord,
    parts: HoldOut,
    seen: Digests,
    now: datetime,
    machine: Machine,
) -> RunRecord:
    copies = int(np.isin(seen[parts.validation], seen[parts.train]).sum())
    return RunRecord(
        status="running",
        recipe=settings.name,
        backend=choose(),
        seed=settings.train.seed,
        started=now.astimezone(UTC).replace(microsecond=0),
        model=settings.model,
        train=settings.train,
        custom=custom,
        data=data,
        hold_out=HoldOutRecord(
            train=len(parts.train),
            validation=len(parts.validation),
            fingerprint=parts.fingerprint,
            copies=copies or None,
        ),
        versions=versions(),
        machine=machine,
    )


def machine_of(settings: Recipe, images: int, parts: int | None = None, workers: int = 1) -> Machine:
    """Return this machine, and how a run of ``workers`` on ``images`` images divides a batch.

    By default as the adapter chooses, but without batch normalization into at least one micro-batch per worker.
    """
    size, ghost_batch = min(settings.train.batch_size, images), settings.model.ghost_batch
    chosen = parts or len(adapter().micro_batches(size, ghost_batch))
    return Machine(
        system=platform.system(),
        processor=processor(),
        cores=usable_cores(),
        devices=tuple(adapter().devices()),
        parts=chosen if parts or ghost_batch else max(chosen, min(workers, size)),
        workers=workers if workers > 1 else None,
        threads=adapter().threads(),
    )
