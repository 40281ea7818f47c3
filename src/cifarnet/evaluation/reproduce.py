"""Repeat a run from its record and compare the results."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.dataset import CIFAR10_FINGERPRINT, Dataset
from cifarnet.errors import RunError, counted
from cifarnet.recipes import Recipe, recipe
from cifarnet.run.custom import NO_CUSTOM_RECORD
from cifarnet.run.folder import EpochRecord, Run, require_weights
from cifarnet.run.origin import require_outside
from cifarnet.run.record import Machine, RunRecord
from cifarnet.run.state import best_epoch_of
from cifarnet.run.typed_json import json_text
from cifarnet.training.observer import Observer
from cifarnet.training.warm_start import warm_start_of

RESULT = "reproduction.json"

MEASURED_NOISE = {
    "train_loss": 0.0163,
    "train_accuracy": 0.0090,
    "validation_loss": 0.0588,
    "validation_accuracy": 0.0275,
}
"""Largest difference of a column in one epoch between JAX, PyTorch and TensorFlow, which differ by rounding only.

Complete runs of the recipe ``seed`` on CIFAR-10 with seed 0 (``benchmarks/results/noise.json``). Losses in nats,
accuracies as fractions.
"""
NOISE_FACTOR = 2
"""A difference counts as noise up to this multiple of the measured one.

Three runs on one machine do not show the largest difference. The bound detects another recipe but not always another
seed, because rounding grows within an epoch or two: one of three pairs of seeds stays within it
(``benchmarks/results/noise.json``).
"""
LEARNING_RATE_NOISE = 1e-15
"""The learning rate only depends on the step; its cosine may differ in the last bit between C libraries."""

Outcome = Literal["bit-equal", "within noise", "diverged"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that differs from the recorded one."""

    epoch: int
    column: str
    recorded: float
    repeated: float
    noise: float | None
    """Largest difference explained by rounding, or None if it was not measured."""

    @property
    def size(self) -> float:
        """Absolute difference; infinite if a value is not finite."""
        size = abs(self.recorded - self.repeated)
        return size if math.isfinite(size) else math.inf

    @property
    def explained(self) -> bool:
        """Whether rounding explains it."""
        return self.noise is not None and self.size <= self.noise


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Comparison of a run and its repetition."""

    outcome: Outcome
    run: str
    """Folder of the repeated run."""
    epochs: int
    """Number of epochs compared."""
    recorded_epochs: int
    first: Difference | None
    """First value that differs."""
    unexplained: Difference | None
    """First difference that rounding does not explain."""
    ending: str | None
    """How the repetition ended, if not as the run did, or before the requested epochs; otherwise None."""
    weights_equal: bool | None
    """Whether the best weights have the same bits, or None if the best epochs differ."""
    changes: tuple[str, ...]
    """Differences in backend, versions and machine, one sentence each."""
    noise_known: bool
    """Whether rounding was measured for these settings and images."""


def planned_epochs(run: Run, wanted: int | None) -> tuple[int, bool]:
    """Return the number of epochs of ``run`` to repeat, by default all, and whether to stop the repetition after them.

    A finished run is repeated until it ends by itself. Raises ``RunError`` if the run has no finished epoch, or fewer
    than ``wanted``.
    """
    record, rows = run.record, len(run.read_history())
    if not rows or (wanted is not None and not 1 <= wanted <= rows):
        asked = "" if wanted is None else f", of which the first {wanted} were asked for"
        raise RunError(
            f"{run} has {rows} finished epoch(s) to compare with{asked}; expected 1 to as many as it has: ask for "
            "fewer or train it further"
        )
    finished = record.status == "finished"
    return wanted or rows, not (finished and wanted in (None, rows))


def reproduce(
    run: Run,
    dataset: Dataset,
    root: Path,
    observer: Any,
    *,
    epochs: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Reproduction:
    """Repeat the training of ``run`` in a new run below ``root``, and return how the two compare.

    Only the first ``epochs``, if given, on the schedule of the whole run. Raises ``RunError`` if the run cannot be
    repeated with this dataset, and if ``stop`` ended the repetition too early.
    """
    from cifarnet.training.begin import begin
    from cifarnet.training.checkpoint import require_trained_with_record
    from cifarnet.training.same_data import same_hold_out
    from cifarnet.training.train import resume

    record = run.record
    record.custom.require_keras("train it again from Python, with cifarnet.train(..., {name}=...)")
    same_hold_out(record, dataset, run)
    require_outside(root, dataset.source, "--output")
    # Now, because they are compared after a whole training.
    require_trained_with_record(run)
    if best_epoch_of(run):
        require_weights(run)
    rows, stops = planned_epochs(run, epochs)
    counted = _Counting(observer, rows if stops else math.inf)
    warm_start = warm_start_of(run)
    repeated = begin(
        record.settings, dataset, root, warm_start=warm_start, custom=record.custom, parts=record.machine.parts
    )
    ended = resume(repeated, dataset, observer=counted, stop=lambda: counted.enough or stop()).record
    if ended.why_stopped == "interrupted" and not counted.enough:
        raise RunError(
            f"{repeated} was stopped after {ended.epochs} epochs; expected {rows} to compare: repeat the run again"
        )
    found = compare_runs(run, repeated, rows if stops or epochs else None)
    write_atomically(repeated.path / RESULT, (json_text(asdict(found)) + "\n").encode())
    return found


class _Counting(Observer):
    """An observer that counts epochs and calls another observer."""

    def __init__(self, observer: Any, limit: float) -> None:
        self._observer, self._limit = observer, limit
        self.enough = False

    def on_progress(self, progress: Any) -> None:
        """Call the other observer."""
        self._observer.on_progress(progress)

    def on_epoch(self, record: EpochRecord, progress: Any) -> None:
        """Count the epoch and call the other observer; training checks ``enough`` after its next batch."""
        self.enough = record.epoch >= self._limit
        self._observer.on_epoch(record, progress)


def compare_runs(original: Run, repeated: Run, epochs: int | None = None) -> Reproduction:
    """Return how two runs compare, including their best weights if they are of the same epoch.

    Only the first ``epochs``, if given; otherwise both must have ended after the same epoch and for the same reason.
    """
    record, again = original.record, repeated.record
    is_recipe = record.warm_start is None and record.custom == NO_CUSTOM_RECORD
    noise = noise_of(record.settings, record.data.fingerprint) if is_recipe else None
    rows, repeated_rows = original.read_history()[:epochs], repeated.read_history()[:epochs]
    differences = _differences(rows, repeated_rows, noise)
    endings = [
        f"{counted(len(found), 'epoch')} ({each.ending})" for found, each in ((rows, record), (repeated_rows, again))
    ]
    ended_alike = len(rows) == len(repeated_rows) if epochs else endings[0] == endings[1]
    if not epochs and differences:  # differences may move the epoch at which patience ends training
        ended_alike |= record.why_stopped == again.why_stopped == "patience"
    ending = None if ended_alike else f"ended after {endings[1]} instead of {endings[0]}"
    same_best = again.best_epoch is not None and record.best_epoch == again.best_epoch
    weights_equal = _equal_weights(original, repeated) if same_best else None
    return Reproduction(
        outcome="diverged" if ending else _outcome(differences, weights_equal=weights_equal),
        run=str(repeated),
        epochs=min(len(rows), len(repeated_rows)),
        recorded_epochs=len(original.read_history()),
        first=differences[0] if differences else None,
        unexplained=next((each for each in differences if not each.explained), None),
        ending=ending,
        weights_equal=weights_equal,
        changes=tuple(changes(record, again)),
        noise_known=noise is not None,
    )


def noise_of(settings: Recipe, fingerprint: str) -> Mapping[str, float] | None:
    """Return the largest difference of each column that rounding explains, or None if it was not measured.

    It was measured for the recipe ``seed`` on CIFAR-10, which may have another random seed, epochs and patience.
    """
    measured = recipe("seed")
    same = replace(settings.train, seed=0, epochs=measured.train.epochs, patience=measured.train.patience)
    if (settings.model, same, fingerprint) != (measured.model, measured.train, CIFAR10_FINGERPRINT):
        return None
    bounds = {column: NOISE_FACTOR * measured for column, measured in MEASURED_NOISE.items()}
    return {"learning_rate": LEARNING_RATE_NOISE, **bounds}


def _differences(
    rows: Sequence[EpochRecord], repeated: Sequence[EpochRecord], noise: Mapping[str, float] | None
) -> list[Difference]:
    """Return all differences in the rows that both have, in the order of the file."""
    return [
        Difference(
            epoch=one.epoch,
            column=column,
            recorded=value,
            repeated=asdict(other)[column],
            noise=None if noise is None else noise[column],
        )
        for one, other in zip(rows, repeated, strict=False)
        for column, value in asdict(one).items()
        if column != "epoch"
        if not np.array_equal(value, asdict(other)[column], equal_nan=True)
    ]


def _equal_weights(original: Run, repeated: Run) -> bool:
    from cifarnet.model.weights import get_weights

    ours, theirs = (get_weights(run.load_model()) for run in (original, repeated))
    return all(np.array_equal(ours[path], theirs[path], equal_nan=True) for path in ours)


def _outcome(differences: Sequence[Difference], *, weights_equal: bool | None) -> Outcome:
    if not differences:
        return "diverged" if weights_equal is False else "bit-equal"
    return "within noise" if all(each.explained for each in differences) else "diverged"


def changes(record: RunRecord, again: RunRecord) -> list[str]:
    """Return a sentence for each difference in backend, versions and machine of two records."""
    then, now = (_surroundings(each) for each in (record, again))
    missing = {each.name: "unknown" for each in fields(Machine)}  # in records of an earlier version
    return [
        f"{name}: {then.get(name, missing.get(name, 'none'))} then, {now.get(name, missing.get(name, 'none'))} now"
        for name in dict.fromkeys((*then, *now))
        if then.get(name) != now.get(name)
    ]


def _surroundings(record: RunRecord) -> dict[str, str]:
    found = {"backend": record.backend, **record.versions, **record.machine.to_json()}
    return {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in found.items()}
