"""The run folder: what it holds, how it is written so that a crash leaves nothing half-made, and ``latest``."""

import csv
import errno
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from .errors import RunError, UsageError
from .interruption import taken_away_if_ended

RECORD = "run.json"
HISTORY = "history.csv"
BEST_WEIGHTS = "best.weights.h5"
START_WEIGHTS = "start.weights.h5"
CHECKPOINTS = "checkpoint"
MODEL = "model.onnx"
LATEST = "latest"
LOCK = ".lock"


@dataclass(frozen=True)
class EpochRecord:
    """One row of ``history.csv``. It holds no time, so that a resumed run writes the same file."""

    epoch: int
    """Counted from 1."""
    learning_rate: float
    """At the last step of the epoch."""
    train_loss: float
    """Mean over the epoch's images as they were trained on, dropout and label smoothing on, nats."""
    train_accuracy: float
    """Fraction, as above."""
    validation_loss: float
    """Mean over the held-out images after the epoch, nats."""
    validation_accuracy: float
    """Fraction, as above."""

    @property
    def comparable_loss(self) -> float:
        """Return the validation loss, or NaN, which never wins, when a batch of the epoch overflowed."""
        return self.validation_loss if math.isfinite(self.train_loss) else math.nan


@dataclass(frozen=True)
class Run:
    """A folder with everything that is known of one training."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def best_weights(self) -> Path:
        """Return where the weights of the best epoch lie, in Keras' ``.weights.h5`` format."""
        return self.path / BEST_WEIGHTS

    @property
    def start_weights(self) -> Path:
        """Return where the weights lie that training starts from, where it goes on from another run."""
        return self.path / START_WEIGHTS

    @property
    def model(self) -> Path:
        """Return where the exported model lies, once there is one."""
        return self.path / MODEL

    @property
    def checkpoints(self) -> Path:
        """Return the folder of what exact resume needs."""
        return self.path / CHECKPOINTS

    def read_record(self) -> dict[str, Any]:
        """Return the content of ``run.json``. Raises ``RunError`` when it is missing or no JSON object."""
        path = self.path / RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{path} could not be read ({error}); expected the record of a run: pass a run folder"
            ) from error
        if not isinstance(record, dict):
            raise RunError(f"{path} holds a {type(record).__name__}; expected a JSON object: pass a run folder")
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``."""
        write_atomically(self.path / RECORD, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())

    def write_history(self, rows: Sequence[EpochRecord]) -> None:
        """Write ``history.csv``, floats in their shortest exact form."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(EpochRecord))
        writer.writerows(map(astuple, rows))
        write_atomically(self.path / HISTORY, text.getvalue().encode())

    def read_history(self) -> list[EpochRecord]:
        """Return the rows of ``history.csv``; none when the first epoch has not ended."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [EpochRecord(int(epoch), *map(float, numbers)) for epoch, *numbers in list(csv.reader(file))[1:]]
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{path} is damaged ({error}); expected one row per epoch: resume the run or start anew"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone. Raises ``RunError`` when another process has it."""
        from filelock import FileLock, Timeout  # imported here: it loads asyncio

        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"{self} is in use by another process; expected it free: wait for that one or stop it"
            ) from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove what a killed process was still writing; temporary names open with a dot and hold a dash."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*-*"):
                path.unlink(missing_ok=True)


def create_run(root: Path, recipe: str, backend: str, now: datetime) -> Run:
    """Make a new folder below ``root``, named for time, recipe and backend, that no other process has."""
    stem = f"{now:%Y%m%d-%H%M%S}-{recipe}-{backend}"
    root.mkdir(parents=True, exist_ok=True)
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        with suppress(FileExistsError):
            (root / (stem + suffix)).mkdir()
            return Run(root / (stem + suffix))
    raise RunError(f"{root} holds 999 runs called {stem}; expected fewer: wait a second")


def point_latest(run: Run) -> None:
    """Make ``latest`` beside ``run`` a link to it; where links are not allowed, the newest folder counts."""
    link = run.path.parent / f".{LATEST}-{os.getpid()}"
    with suppress(OSError), taken_away_if_ended(partial(link.unlink, missing_ok=True)):
        link.symlink_to(run.path.name, target_is_directory=True)
        link.replace(run.path.parent / LATEST)
    link.unlink(missing_ok=True)


def find_run(root: Path, name: str | None = None, *, with_weights: bool = False) -> Run:
    """Return the run called ``name``, a path or a folder below ``root``; by default the latest.

    ``with_weights`` passes over runs without best weights, one that was stopped in its first epoch for instance, unless
    there are no others or the run is named. Raises ``RunError`` when there is none.
    """
    candidates = [Path(name), root / name] if name else [root / LATEST, *_newest_first(root)]
    runs = [Run(path.resolve() if path.is_symlink() else path) for path in candidates if (path / RECORD).is_file()]
    if not runs and name and (Path(name).parent / RECORD).is_file():
        raise RunError(f"{name} lies in a run folder and is none; expected the folder: name {Path(name).parent}")
    if not runs:
        wanted = f"{name} is no run folder" if name else f"{root} holds no run"
        raise RunError(f"{wanted}; expected a folder with {RECORD}: train one with `cifarnet train`")
    passing = (run for run in runs if run.best_weights.is_file())
    return next(passing, runs[0]) if with_weights and not name else runs[0]


def _newest_first(root: Path) -> list[Path]:
    return sorted((path.parent for path in root.glob(f"*/{RECORD}")), reverse=True)


def json_text(document: Any) -> str:
    """Return JSON for any reader: ``null`` in place of infinities and NaN, for which JSON has no word."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: bytes) -> None:
    """Give ``content`` the name ``path`` only once it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with taken_away_if_ended(partial(temporary.unlink, missing_ok=True)):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            publish(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"{path} could not be written ({error.strerror}): free some space or choose another folder"
        ) from error


def require_writable(path: Path) -> None:
    """Raise ``RunError`` unless ``write_atomically`` may give a file the name ``path``; nothing is left behind."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent, prefix=f".{path.name}-"):
            pass
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror}); expected a folder to write to: make room, change its "
            "permissions or copy the run elsewhere"
        ) from error


def require_writable_model(path: Path) -> None:
    """Raise ``UsageError`` unless a model file may be called ``path`` and be written there; nothing is left behind."""
    if path.suffix != ".onnx" or path.is_dir():
        raise UsageError(f"the file is to be called {str(path)!r}; expected a name that ends in .onnx: give another")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=f".{path.name}-"):
            pass
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); expected a folder to write to: give another name"
        ) from error


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file into place, durably."""
    temporary.replace(path)
    if hasattr(os, "O_DIRECTORY"):  # the folder entry is synced where the system can open folders
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
