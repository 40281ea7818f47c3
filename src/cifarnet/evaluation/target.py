"""A model under evaluation, the best weights of a run or a model file, and the images to evaluate it on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unicodedata import normalize

from cifarnet.contract import FILE_ENGINE, Shape
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import DataError, UsageError
from cifarnet.run.exported import UNKNOWN, calibration_in, origin_in, run_beside
from cifarnet.run.folder import Run, require_weights
from cifarnet.run.origin import DataRecord
from cifarnet.run.record import Calibration
from cifarnet.runtime import open_model
from cifarnet.training.same_data import since_then
from cifarnet.training.seen import count_seen, seen_by

from .metrics import Evaluation, measure
from .scoring import Predictor, predict, with_tta

if TYPE_CHECKING:
    from cifarnet.data import Progress
    from cifarnet.training.best_weights import Best


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A model under evaluation."""

    name: str
    engine: str
    """Backend, or onnxruntime."""
    labels: tuple[str, ...]
    image_shape: Shape
    run: Run | None
    """Run that the model belongs to, or None if unknown."""
    views: int
    """Views that the predictor averages: more than 1 with test-time augmentation."""
    load_origin: Callable[[], DataRecord]
    load_predictor: Callable[[], Predictor]
    load_calibration: Callable[[Dataset | None, int], Calibration | None]
    """Takes the dataset that the model was trained on, if available, and ``views``."""

    @property
    def origin(self) -> DataRecord:
        """Return the dataset that the model was trained on. Raises ``DataError`` if a model file lacks it."""
        return self.load_origin()

    def with_tta(self, views: int) -> "Target":
        """Return the model with test-time augmentation of ``views``; the same if it has that already.

        Raises ``UsageError`` for a file with another number of views.
        """
        if self.views == views:
            return self
        if self.views > 1:
            raise UsageError(
                f"{self.name} averages {self.views} views itself; expected --tta {self.views}, or none: correct it"
            )
        return replace(self, views=views, load_predictor=lambda: with_tta(self.load_predictor(), views))

    def logits(self, split: Split) -> Any:
        """Return the logits, float32 (n, classes), of the images of ``split``. Raises ``DataError`` without images."""
        return predict(self.load_predictor(), split.images)

    def evaluate(self, split: Split, dataset: Dataset | None = None, recorded: Calibration | None = None) -> Evaluation:
        """Return all metrics on ``split``. Raises ``DataError`` if it has no images.

        ``dataset`` is what the model was trained on, if available: a run without a calibration is calibrated on its
        validation split. ``recorded`` is the calibration to use for a model without one.
        """
        calibration = self.load_calibration(dataset, self.views) or recorded
        temperature, threshold = (
            (None, None) if calibration is None else (calibration.temperature, calibration.threshold)
        )
        return measure(self.logits(split), split.labels, self.labels, temperature, threshold, split.files)


def run_target(run: Run, backend: str) -> Target:
    """Return the best weights of ``run`` on the backend of this process. Raises ``RunError`` without weights."""
    record = run.record
    require_weights(run)

    @cache
    def best() -> "Best":
        from cifarnet.training.best_weights import load_best_and_epoch

        return load_best_and_epoch(run)

    def predictor() -> Predictor:
        from cifarnet.model.network import predictor

        return predictor(best().model)

    def calibration(dataset: Dataset | None, views: int) -> Calibration | None:
        from cifarnet.training.best_weights import calibration_of, record_of

        if dataset is None or dataset.fingerprint != record.origin.fingerprint:
            return record_of(run, best().epoch).calibration_for(views)
        return calibration_of(run, best().model, dataset, views=views, epoch=best().epoch)

    return Target(
        name=str(run),
        engine=backend,
        labels=record.data.labels,
        image_shape=cast("Shape", record.model.image_shape),
        run=run,
        views=1,
        load_origin=lambda: record.origin,
        load_predictor=predictor,
        load_calibration=calibration,
    )


def file_target(path: Path, run: Run | None = None) -> Target:
    """Return a model file in onnxruntime. ``run`` is its run, by default the one in whose folder it lies."""
    opened = open_model(path, threads=0)
    contract, name = opened.contract, str(path)
    run = run or run_beside(path, contract)

    def calibration(_: Dataset | None, views: int) -> Calibration | None:
        return calibration_in(contract, name) if views == contract.views else None

    return Target(
        name=name,
        engine=FILE_ENGINE,
        labels=contract.labels,
        image_shape=contract.image_shape,
        run=run,
        views=contract.views,
        load_origin=lambda: run.record.origin if run else origin_in(contract, name),
        load_predictor=lambda: opened.logits,
        load_calibration=calibration,
    )


def open_images(
    target: Target, place: str | None, progress: "Progress | None" = None, *, skip_broken: bool = False
) -> Dataset:
    """Return the dataset that the model was trained on, or the one in ``place``, split by the same rule.

    Raises ``DataError`` for other classes or another image size. Check its test split with ``require_unseen`` before
    evaluating on it.
    """
    if place is None:
        _require_origin(target)
    dataset = target.origin.load_dataset(place, progress, skip_broken=skip_broken)
    if (shape := dataset.test.images.shape[1:]) != target.image_shape:
        raise DataError(
            f"{dataset.name} has images of shape {shape}; expected {target.image_shape}, the input of {target.name}: "
            "evaluate it on a folder with `cifarnet evaluate --images`, which resizes them"
        )
    require_labels(target, dataset)
    return dataset


def _require_origin(target: Target) -> None:
    if target.origin == UNKNOWN:
        raise DataError(
            f"{target.name} does not name its training data, like every file of export_model; expected images to "
            "evaluate on: name them with --data"
        )


def require_comparable(first: Target, second: Target, *, same_data: bool) -> None:
    """Raise ``DataError`` for models of different classes or image sizes, and with ``same_data`` of different data."""
    if first.labels != second.labels:
        raise DataError(
            f"{second.name} has the classes {', '.join(second.labels)}; expected {', '.join(first.labels)} as "
            f"{first.name}: compare models of the same classes"
        )
    if first.image_shape != second.image_shape:
        raise DataError(
            f"{second.name} takes images of shape {second.image_shape}; expected {first.image_shape} as {first.name}: "
            "evaluate each model alone"
        )
    for target in (first, second) if same_data else ():
        _require_origin(target)
    if same_data and first.origin.fingerprint != second.origin.fingerprint:
        raise DataError(
            f"{second.name} was trained on other images than {first.name}, perhaps on these test images; expected the "
            "same dataset: name images that are new to both with --images"
        )


def is_own(target: Target, dataset: Dataset) -> bool:
    """Return whether the model was trained on ``dataset``."""
    return len(dataset.train) > 0 and dataset.fingerprint == target.origin.fingerprint


def require_unseen(target: Target, dataset: Dataset, place: str | None) -> bool | None:
    """Return True if the model was trained on no image of the test split of ``dataset``, or None if unknown.

    Raises ``DataError`` if it was trained on some, if the images of the run changed and no ``place`` was given, and if
    the model file records another split.
    """
    own = is_own(target, dataset)
    if place is None and not own:
        raise DataError(
            f"{dataset.name} has changed since {target.name} was trained: its fingerprint is "
            f"{dataset.fingerprint[:12]}; expected {target.origin.fingerprint[:12]}"
            f"{since_then(target.run, dataset)}: restore it, or name the images to evaluate on with --data"
        )
    seen = None if target.run is None else seen_by(target.run)
    start = None if target.run is None else target.run.record.warm_start
    if seen is None:
        _require_same_split(target, dataset)
        return True if own and start is None else None
    if count := count_seen(dataset.test.images, seen):
        raise DataError(
            f"{count} of the {len(dataset.test)} test images of {dataset.name} are training images of {target.name}; "
            "expected images that are new to it: name a folder of others"
        )
    return True if own or start is None or not start.other_shapes else None


def _require_same_split(target: Target, dataset: Dataset) -> None:
    split = dataset.split_by, dataset.split_seed
    if dataset.split_by and split != (target.origin.split_by, target.origin.split_seed):
        raise DataError(
            f"{target.name} was trained on another split of {target.origin.name}, perhaps on these test images; "
            "expected images that are new to all models: name a folder of those"
        )


def scored_images(dataset: Dataset, *, same_as_run: bool, unseen: bool | None) -> dict[str, Any]:
    """Return the description of the test split of ``dataset`` for a JSON document."""
    return {
        "source": dataset.source,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset.test),
        "same_as_run": same_as_run,
        "unseen": unseen,
    }


def require_labels(target: Target, dataset: Dataset) -> None:
    """Raise ``DataError`` unless ``dataset`` has the classes of the model in the same order, in any Unicode form."""
    expected, found = ([normalize("NFC", label) for label in each.labels] for each in (target, dataset))
    if expected != found:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.labels)}; expected {', '.join(target.labels)} as in "
            f"{target.name}: pass images of those classes"
        )
