"""Show a training run live in TensorBoard: ``tensorboard --logdir runs`` shows all runs.

The event files are in the run's folder, written with tensorboardX, which needs neither TensorFlow nor a thread.
"""

import importlib.util
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarnet.backends import install_line
from cifarnet.errors import TrackingError, UsageError, printable
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import RunRecord

from .observer import Observer

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

FIGURES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
}
"""Name of a curve and the column of ``history.csv`` behind it; losses in nats, accuracies as fractions."""
FOLDER = "tensorboard"
"""Folder of the event files in the run's folder."""
SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#$])")
"""Characters with a meaning in Markdown."""
LENGTH_BYTES, CHECKSUM_BYTES = 8, 4
"""Sizes in a record of TensorFlow's format: length, its checksum, the content, its checksum."""


def require_trackers(names: Iterable[str]) -> None:
    """Raise ``UsageError`` for a name other than ``tensorboard``, ``TrackingError`` if tensorboardX is missing."""
    for name in names:
        if name == "mlflow":
            raise UsageError(
                "--track mlflow is no longer supported; expected --track tensorboard: use that, or log to MLflow in an "
                "observer of your own"
            )
        if name != "tensorboard":
            raise UsageError(f"a training run was to be tracked in {name!r}; expected tensorboard")
        if importlib.util.find_spec("tensorboardX") is None:
            raise TrackingError(
                f"tensorboardX is not installed; expected for --track tensorboard: {install_line('tensorboard')}"
            )


class Tracking(Observer):
    """An observer that writes TensorBoard's files if ``names`` has ``tensorboard``, and calls another observer.

    Epochs already in ``history.csv`` are written first, so that none is missing after a resume. A failure calls
    ``notice`` and ends the writing but not the training; ``finish`` then raises. Raises ``TrackingError`` if the files
    cannot be opened, and as ``require_trackers``.
    """

    def __init__(self, names: Iterable[str], run: Run, observer: Any, notice: Callable[[str], object]) -> None:
        names = list(names)
        require_trackers(names)
        self._run, self._observer, self._notice = run, observer, notice
        self._files: EventFiles | None = None
        self._failure = ""
        if names:
            try:
                self._files = EventFiles(run)
                self._files.show_epochs(run.read_history())
            except Exception as error:
                raise TrackingError(
                    f"TensorBoard's files in {run} could not be opened ({_reason(error)}); expected a place to write "
                    "to: free it, or leave --track out"
                ) from error

    def on_progress(self, progress: Any) -> None:
        """Call the other observer."""
        self._observer.on_progress(progress)

    def on_epoch(self, record: EpochRecord, progress: Any) -> None:
        """Call the other observer, then write the epoch."""
        self._observer.on_epoch(record, progress)
        self._try(lambda files: files.show_epochs([record]))

    def finish(self, record: RunRecord) -> None:
        """Write the end of a session. Raises ``TrackingError`` if something could not be written."""
        # The whole history, in case the process was killed before it wrote an epoch.
        self._try(lambda files: files.show_epochs(self._run.read_history()))
        self._try(lambda files: files.show_end(record))
        if self._failure:
            raise TrackingError(
                f"the run is complete in {self._run}, but TensorBoard shows only a part of it ({self._failure}); "
                f"expected all of it: see to {self._run.path / FOLDER}"
            )

    def _try(self, show: Callable[["EventFiles"], object]) -> None:
        try:
            if self._files is not None:
                show(self._files)
        except Exception as error:  # noqa: BLE001  # the training continues, whatever another library raises
            self._files, self._failure = None, _reason(error)
            self._notice(f"TensorBoard is left out from here on ({self._failure}); training continues")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class EventFiles:
    """The event file of a session; what files of earlier sessions have is not written again."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import RecordWriter, summary
        from tensorboardX.proto.event_pb2 import Event

        self._summary, self._event = summary, Event
        folder = run.path / FOLDER
        folder.mkdir(exist_ok=True)
        files = sorted(folder.glob("events.out.tfevents.*"))
        self._shown = {
            (value.tag, event.step) for file in files for event in _events(file) for value in event.summary.value
        }
        # TensorBoard reads the files in the order of their names.
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time()):010}.{len(files):04}"))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._show("settings", 0, summary.text("settings", _table(run.record)))

    def show_epochs(self, rows: Iterable[EpochRecord]) -> None:
        """Write finished epochs."""
        for row in rows:
            self._show_figures({name: getattr(row, column) for name, column in FIGURES.items()}, row.epoch)

    def show_end(self, record: RunRecord) -> None:
        """Write the test metrics of a finished run and close the file."""
        score = record.metrics.test
        if record.status == "finished" and score is not None:
            self._show_figures({"test/loss": score.loss, "test/accuracy": score.accuracy}, record.epochs or 0)
        self._writer.close()

    def _show_figures(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._show(name, step, self._summary.scalar(name, value))
        self._writer.flush()

    def _show(self, name: str, step: int, content: "Summary") -> None:
        tags = {(value.tag, step) for value in content.value}
        if not tags <= self._shown:
            self._write(self._event(wall_time=time.time(), step=step, summary=content))
            self._shown |= tags

    def _write(self, event: "Event") -> None:
        self._writer.write(event.SerializeToString())


def _table(record: RunRecord) -> str:
    """Return the settings as a Markdown table, which TensorBoard renders."""
    about = {"recipe": record.recipe, "backend": record.backend}
    data = {"data_name": record.data.name, "data_fingerprint": record.data.fingerprint}
    settings = about | data | record.model.to_json() | record.training
    rows = [f"| {name} | {_escaped(str(value))} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _escaped(value: str) -> str:
    return SPECIAL.sub(r"\\\1", printable(" ".join(value.split())))


def _events(path: Path) -> "Iterator[Event]":
    """Yield the complete events of a file; a killed process may have left an incomplete one at the end."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = path.read_bytes(), 0
    while at + LENGTH_BYTES + CHECKSUM_BYTES <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        begin = at + LENGTH_BYTES + CHECKSUM_BYTES
        at = begin + length + CHECKSUM_BYTES
        if at <= len(content):
            yield Event.FromString(content[begin : begin + length])
