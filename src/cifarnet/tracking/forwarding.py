"""An observer that shows a training elsewhere and passes everything on."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cifarnet.backends import not_installed
from cifarnet.errors import TrackingError, UsageError
from cifarnet.run import EpochRecord, Run

from .interface import NAMES, Tracker

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
"""What each place needs to be installed, by its name on import."""


def require_trackers(names: Iterable[str]) -> None:
    """Raise ``UsageError`` for a name that is none of ours and ``TrackingError`` for one whose package is missing."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f"a training was to be tracked in {name!r}; expected one of {', '.join(NAMES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise TrackingError(not_installed([PACKAGES[name]], f"--track {name}", name))


def open_tracking(names: Sequence[str], run: Run, observer: Any, notice: Callable[[str], object]) -> "Tracking":
    """Return an observer that shows ``run`` in each of the named places and passes everything on to ``observer``.

    What ``history.csv`` holds already is shown at once, so that nothing is missing after a resume. Raises
    ``TrackingError`` for a place that cannot be opened, ``UsageError`` for an unknown one.
    """
    require_trackers(names)
    tracking = Tracking(run, observer, notice)
    for name in dict.fromkeys(names):
        try:
            tracking.add(name, importlib.import_module(f".{name}", __package__).open_tracker(run))
        except Exception as error:
            raise TrackingError(
                f"{name} could not be opened for {run} ({_reason(error)}); expected a place to write to: mend it, or "
                "leave --track out"
            ) from error
    return tracking


class Tracking:
    """Passes a training on to an observer and to trackers, of which none can hurt it.

    The first failure of a tracker is told at once, and it is left out from then on: what it shows is a copy, and a run
    is worth more than its copy. ``finish`` then raises, so that an incomplete copy is never taken for a whole one.
    """

    def __init__(self, run: Run, observer: Any, notice: Callable[[str], object]) -> None:
        self._run, self._observer, self._notice = run, observer, notice
        self._trackers: dict[str, Tracker] = {}
        self._failures: dict[str, str] = {}

    def add(self, name: str, tracker: Tracker) -> None:
        """Take in a tracker, and show it what has happened before."""
        self._catch_up(tracker)
        self._trackers[name] = tracker

    def on_progress(self, progress: Any) -> None:
        """Pass it on."""
        self._observer.on_progress(progress)

    def on_epoch(self, record: EpochRecord, progress: Any) -> None:
        """Pass it on, then show it."""
        self._observer.on_epoch(record, progress)
        self._each(lambda tracker: tracker.log_epoch(record))

    def finish(self, record: Mapping[str, Any]) -> None:
        """Show the end of a session; raise ``TrackingError`` when a tracker failed since it was opened."""
        self._each(self._catch_up)  # with an epoch that a kill cut off from its trackers
        self._each(lambda tracker: tracker.log_end(record))
        if self._failures:
            told = "; ".join(f"{name}: {reason}" for name, reason in self._failures.items())
            raise TrackingError(
                f"the run is complete in {self._run}, but not what is tracked of it ({told}): mend that"
            )

    def _catch_up(self, tracker: Tracker) -> None:
        for row in self._run.read_history():
            tracker.log_epoch(row)

    def _each(self, show: Callable[[Tracker], object]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                show(tracker)
            except Exception as error:  # noqa: BLE001  # whatever a foreign library raises, the training goes on
                del self._trackers[name]
                self._failures[name] = _reason(error)
                self._notice(f"{name} is left out from here on ({_reason(error)}); the training goes on")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
