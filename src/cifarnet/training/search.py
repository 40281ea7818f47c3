"""Search for better settings of a recipe with Optuna, in any number of processes that share a journal file.

The objective is the validation loss; the test images are not evaluated.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from cifarnet.atomic import has_ended, own_process, probe, temporary_folder
from cifarnet.data import hold_out_of
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError, reason
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord, Run

from .begin import require_fitting
from .loop import Session
from .observer import Observer, Progress
from .train import initial_model

FACTOR = 4
"""Learning rate and weight decay are searched up to this many times the recipe's, and down to that fraction of it.

This and the other ranges were chosen, not tuned.
"""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials that count. Failed trials were interrupted; running ones may have been killed."""
PROCESS = "process"
"""User attribute of a trial: the process that runs it. Optuna's heartbeats need a database."""


def search(
    settings: Recipe,
    dataset: Dataset,
    storage: Path,
    *,
    trials: int,
    max_minutes: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    on_trial: Callable[[optuna.trial.FrozenTrial], None] = lambda _: None,
) -> optuna.Study:
    """Run trials with settings around ``settings`` until the journal ``storage`` has ``trials`` of them.

    ``settings`` is a recipe that is already adapted to ``dataset`` (``Recipe.for_dataset``), and the first trial. A
    trial is pruned if its lowest validation loss so far is above the median of the finished trials at the same epoch.
    ``on_trial`` is called after each trial. ``stop`` and ``max_minutes`` end the search and lose the running trial.
    Returns the study. Raises ``RunError`` for a file that is not a journal.
    """
    require_fitting(settings, dataset)
    deadline = time.monotonic() + 60 * max_minutes
    space, study = search_space(settings), _open_study(storage, settings, dataset)
    while len(study.get_trials(deepcopy=False, states=COUNTED)) < trials and not stop() and time.monotonic() < deadline:
        _fail_lost_trials(study)
        _enqueue_recipe(study, settings)
        trial = study.ask(space)
        trial.set_user_attr(PROCESS, own_process())
        with temporary_folder(storage) as folder:
            left = (deadline - time.monotonic()) / 60
            value, state = _try(trial, settings.changed(trial.params), dataset, Run(folder), stop, left)
        on_trial(study.tell(trial, value, state))
    return study


def require_usable(storage: Path) -> None:
    """Raise ``RunError`` unless ``storage`` is a journal, or can become one. Its studies are not read."""
    with _usable(storage):
        if storage.exists():
            _require_journal(storage)
        probe(storage)
        _lock(storage)


@contextmanager
def _usable(storage: Path) -> Iterator[None]:
    """Convert errors of the file ``storage``, and of content that is no journal, into a ``RunError``."""
    try:
        yield
    except (OSError, NotImplementedError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{storage} cannot be used ({reason(error)}); expected a journal of `cifarnet tune`, or none yet, in a "
            "writable folder: name another file"
        ) from error


def search_space(settings: Recipe) -> dict[str, Any]:
    """Return the distribution of each setting that is searched."""
    train, model = settings.train, settings.model
    rate, decay, smoothing, batch = train.learning_rate, train.weight_decay, train.label_smoothing, train.batch_size
    side = min(model.image_shape[:2])
    space = {
        "learning_rate": FloatDistribution(rate / FACTOR, rate * FACTOR, log=True),
        "weight_decay": FloatDistribution(decay / FACTOR, decay * FACTOR or 0.02, log=decay > 0),
        "label_smoothing": FloatDistribution(0, max(smoothing, min(smoothing + 0.1, 0.9))),
        "translation": IntDistribution(0, min(max(2 * train.translation, side // 8), side - 1)),
        "cutout": IntDistribution(0, min(max(2 * train.cutout, side // 2), side - 1)),
        "batch_size": CategoricalDistribution(sorted({max(batch // 2, 1), batch, 2 * batch})),
    }
    if model.dense_units:
        share = model.dropout
        space["dropout"] = FloatDistribution(max(share - 0.2, 0), max(share, min(share + 0.2, 0.9)))
    return space


def importance(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each setting for the validation loss, 0 to 1 with sum 1; empty for too few trials."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return optuna.importance.get_param_importances(study) if len({trial.value for trial in trials}) > 1 else {}


def _open_study(storage: Path, settings: Recipe, dataset: Dataset) -> optuna.Study:
    """Open the study of these settings and images. Raises ``RunError`` for a journal that has another one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    facts = json.dumps([dataset.fingerprint, settings.model.to_json(), settings.train.to_json()])
    schedule = settings.train.schedule_epochs or settings.train.epochs
    with _usable(storage):
        lock = _lock(storage)
        if storage.exists():
            _require_journal(storage)
            _drop_incomplete_line(storage, lock)
        opened = JournalStorage(JournalFileBackend(str(storage), lock))
        name = f"{settings.name} {hashlib.sha256(facts.encode()).hexdigest()[:12]}"
        if others := [each.study_name for each in opened.get_all_studies() if each.study_name != name]:
            raise RunError(
                f"{storage} has another search, around the recipe {others[0].rpartition(' ')[0]}; expected the same "
                "recipe, settings and images: name another journal"
            )
        return optuna.create_study(
            storage=opened,
            study_name=name,
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=schedule // 4),
            load_if_exists=True,
        )


def _enqueue_recipe(study: optuna.Study, settings: Recipe) -> None:
    """Make the recipe itself the next trial, unless there is one that was not interrupted."""
    values = settings.model.to_json() | settings.train.to_json()
    first = {name: values[name] for name in search_space(settings)}
    states = [state for state in TrialState if state != TrialState.FAIL]
    trials = study.get_trials(deepcopy=False, states=states)
    if all(trial.system_attrs.get("fixed_params") != first for trial in trials):
        study.enqueue_trial(first, {PROCESS: own_process()})  # so that it is found if this process is killed at once


def _fail_lost_trials(study: optuna.Study) -> None:
    """Mark the running trials of killed processes of this machine as failed; those of other machines stay."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if PROCESS in trial.user_attrs and has_ended(trial.user_attrs[PROCESS]):
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was faster
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _require_journal(path: Path) -> None:
    """Raise ``ValueError`` or ``TypeError`` unless the file is a journal, because Optuna might append to any file."""
    with path.open("rb") as file:
        first = file.readline()
    if first and "op_code" not in json.loads(first):
        raise ValueError("it was not written by Optuna")


def _lock(storage: Path) -> FileLock:
    """Return the file lock of a journal. Unlike Optuna's locks, the system releases it if the process is killed.

    Raises ``ValueError`` if a file of that name has content.
    """
    path = storage.absolute().with_name(f".{storage.name}.lock")
    if path.exists() and (not path.is_file() or path.stat().st_size):
        raise ValueError(f"{path.name} beside it is not its lock file, which would be empty")
    return FileLock(path)


def _drop_incomplete_line(path: Path, lock: FileLock) -> None:
    """Remove an incomplete last line, as after a full disk, or Optuna would append to it and could read neither."""
    with lock:  # otherwise it may be the line that another process is writing
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _try(
    trial: optuna.Trial, settings: Recipe, dataset: Dataset, run: Run, stop: Callable[[], bool], max_minutes: float
) -> tuple[float | None, TrialState]:
    """Train with ``settings``; return the validation loss of the best epoch and the state of the trial."""
    parts = hold_out_of(dataset, settings.train)
    model = initial_model(settings, dataset.train, parts)
    try:
        session = Session(model, dataset.train, parts, settings, run, _Reporter(trial, settings.train.epochs))
        outcome = session.train(stop, max_minutes)
    except optuna.TrialPruned:
        return None, TrialState.PRUNED
    if outcome.resumable:
        return None, TrialState.FAIL
    if not outcome.best_epoch:  # no finite loss
        return None, TrialState.PRUNED
    best = outcome.history[outcome.best_epoch - 1]
    trial.set_user_attr("epoch", best.epoch)
    trial.set_user_attr("accuracy", best.validation_accuracy)
    return best.validation_loss, TrialState.COMPLETE


class _Reporter(Observer):
    """Report the validation loss of each epoch, and end a trial that is to be pruned before its last epoch."""

    def __init__(self, trial: optuna.Trial, epochs: int) -> None:
        self._trial, self._epochs = trial, epochs

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        self._trial.report(record.validation_loss, record.epoch)
        if record.epoch < self._epochs and self._trial.should_prune():
            raise optuna.TrialPruned
