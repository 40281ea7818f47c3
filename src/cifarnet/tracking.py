"""TensorBoard's event files, in the run's folder: ``tensorboard --logdir runs`` shows every run beside the others.

They are written record by record with tensorboardX, which needs neither TensorFlow nor a thread for it.
"""

import re
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import RecordWriter, summary
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from cifarnet.run import EpochRecord, Run
from cifarnet.spec import printable

from .interface import figures_of, final_figures_of, settings_of

FOLDER = "tensorboard"
"""In the run's folder."""
SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#$])")
"""Characters that Markdown may read as its own."""
LENGTH_BYTES, CHECKSUM_BYTES = 8, 4
"""Of a record in TensorFlow's record format: length, its checksum, the content, its checksum."""


def open_tracker(run: Run) -> "TensorBoard":
    """Return the event files of ``run``, a new one made for this session."""
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    return TensorBoard(folder, run.read_record())


class TensorBoard:
    """A session's event file beside those of the sessions before it."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        files = sorted(folder.glob("events.out.tfevents.*"))
        self._shown = {
            (value.tag, event.step) for file in files for event in _events(file) for value in event.summary.value
        }
        # TensorBoard reads the files in the order of their names.
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time()):010}.{len(files):04}"))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._show("settings", 0, summary.text("settings", _table(settings_of(record))))

    def log_epoch(self, row: EpochRecord) -> None:
        """Show a finished epoch; see ``Tracker``."""
        self._show_figures(figures_of(row), row.epoch)

    def log_end(self, record: Mapping[str, Any]) -> None:
        """Show the test metrics of a finished run and close the file; see ``Tracker``."""
        self._show_figures(final_figures_of(record), record["epochs"])
        self._writer.close()

    def _show_figures(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._show(name, step, summary.scalar(name, value))
        self._writer.flush()

    def _show(self, name: str, step: int, content: Summary) -> None:
        tags = {(value.tag, step) for value in content.value}
        if not tags <= self._shown:
            self._write(Event(wall_time=time.time(), step=step, summary=content))
            self._shown |= tags

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


def _table(settings: Mapping[str, str]) -> str:
    """Return settings as a Markdown table, which TensorBoard renders."""
    return "\n".join(
        ["| setting | value |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in settings.items())]
    )


def _cell(value: str) -> str:
    """Return text on one line, with nothing that Markdown takes for its own."""
    return SPECIAL.sub(r"\\\1", printable(" ".join(value.split())))


def _events(path: Path) -> Iterator[Event]:
    """Yield the whole events of a file, up to where a killed process was still writing."""
    content, at = path.read_bytes(), 0
    while at + LENGTH_BYTES + CHECKSUM_BYTES <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        begin = at + LENGTH_BYTES + CHECKSUM_BYTES
        at = begin + length + CHECKSUM_BYTES
        if at <= len(content):
            yield Event.FromString(content[begin : begin + length])
