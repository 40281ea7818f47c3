"""The best weights of a run, and what its record knows about them."""

from contextlib import suppress
from dataclasses import dataclass, replace

import keras

from cifarnet.backends import ALONE, Workers, default_settings
from cifarnet.data import HoldOut
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError
from cifarnet.evaluation.calibration import calibrate
from cifarnet.evaluation.scoring import Predictor, predict, with_tta
from cifarnet.model.network import build_model, predictor
from cifarnet.model.weights import load_weights
from cifarnet.run.folder import Run, require_weights
from cifarnet.run.record import Calibration, RunRecord
from cifarnet.run.state import best_epoch_of

from .checkpoint import require_trained_with_record
from .same_data import same_hold_out


@default_settings()
def calibration_of(
    run: Run, model: keras.Model, dataset: Dataset, *, views: int = 1, epoch: int | None = None
) -> Calibration:
    """Return the calibration in the record of ``run``, with test-time augmentation of several ``views``.

    If the record has none, it is fitted with ``model``, which has the run's best weights, and stored in the record
    unless training is still running. ``epoch``, if given, is that of the weights of ``model``: the results of a record
    with another best epoch are not used. Raises ``RunError`` if ``dataset`` is not the one of the run.
    """
    record = run.record if epoch is None else record_of(run, epoch)
    if (recorded := record.calibration_for(views)) is not None:
        return recorded
    parts = same_hold_out(record, dataset, run)
    found = fit_calibration(with_tta(predictor(model), views), dataset, parts)
    if record.status != "running":
        with suppress(RunError, OSError), run.locked():  # the folder may be read-only
            now = run.record
            if now.best_epoch == record.best_epoch:
                run.write_record(now.with_calibration(found, views))
    return found


def fit_calibration(forward: Predictor, dataset: Dataset, parts: HoldOut, workers: Workers = ALONE) -> Calibration:
    """Return the calibration of ``forward`` on the validation images."""
    logits = predict(forward, dataset.train.images[parts.validation], workers=workers)
    return calibrate(logits, dataset.train.labels[parts.validation])


@dataclass(frozen=True)
class Best:
    """The network of a run with the weights of its best epoch, and that epoch."""

    model: keras.Model
    epoch: int | None
    """Counted from 1; None if neither the weights nor the record and the history have it."""


def load_best_and_epoch(run: Run) -> Best:
    """Return the network with the best weights of ``run``, and their epoch, even while training replaces them.

    Raises as ``Run.load_model``, and ``RunError`` if the record contradicts the history or the checkpoints.
    """
    require_weights(run)
    require_trained_with_record(run)
    recorded = best_epoch_of(run)
    model = build_model(run.record.model)
    epoch = load_weights(model, run.best_weights)
    return Best(model, recorded if epoch is None else epoch)


def record_of(run: Run, epoch: int | None) -> RunRecord:
    """Return the record of ``run``, without its results if they are not those of the weights of ``epoch``."""
    record = run.record
    return record if record.best_epoch == epoch else replace(record.without_results(), best_epoch=epoch)
