"""The run folder: what it holds, how it is written so that a crash leaves nothing half-made, and ``latest``."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from cifarnet.atomic import locked, probe, remove_abandoned, temporary_name, write_atomically
from cifarnet.contract import CONTRACT_SUFFIX, PARITY_SUFFIX, ROBUSTNESS
from cifarnet.errors import RunError, UsageError, reason
from cifarnet.interruption import cleanup_on_interrupt

from .record import RunRecord

RECORD = "run.json"
HISTORY = "history.csv"
BEST_WEIGHTS = "best.weights.h5"
START_WEIGHTS = "start.weights.h5"
SEEN = "seen.npy"
CHECKPOINTS = "checkpoint"
MODEL = "model.onnx"
LATEST = "latest"
LOCK = ".lock"
EXPORT_LOCK = ".export.lock"
RESERVED = frozenset((RECORD, ROBUSTNESS, "reproduction.json"))
"""Files of a run folder that no export may replace, there or not."""
BESIDE = {
    CONTRACT_SUFFIX: frozenset(("version", "labels", "input", "outputs")),
    PARITY_SUFFIX: frozenset(("precision", "sha256", "checks")),
}
"""What an export writes beside a model: the suffix, and keys by which the file is known for one."""


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


COLUMNS = [field.name for field in fields(EpochRecord)]


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
    def seen(self) -> Path:
        """Return where the digests lie of the images that the run, and those that it started from, were trained on."""
        return self.path / SEEN

    @property
    def model(self) -> Path:
        """Return where the exported model lies, once there is one."""
        return self.path / MODEL

    @property
    def checkpoints(self) -> Path:
        """Return the folder of what exact resume needs."""
        return self.path / CHECKPOINTS

    def read_record(self) -> RunRecord:
        """Return what ``run.json`` tells now. Raises ``RunError`` when it is missing or damaged."""
        path = self.path / RECORD
        try:
            document = json.loads(path.read_bytes(), parse_constant=_finite_number, parse_float=_finite_number)
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{path} could not be read ({reason(error)}); expected the record of a run: pass a run folder"
            ) from error
        if not isinstance(document, dict):
            raise RunError(f"{path} holds a {type(document).__name__}; expected a JSON object: pass a run folder")
        return RunRecord.from_json(document)

    def write_record(self, record: RunRecord) -> None:
        """Write ``run.json``."""
        text = json.dumps(record.to_json(), indent=2, allow_nan=False)
        write_atomically(self.path / RECORD, f"{text}\n".encode())

    def write_history(self, rows: Sequence[EpochRecord]) -> None:
        """Write ``history.csv``, floats in their shortest exact form."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(astuple, rows))
        write_atomically(self.path / HISTORY, text.getvalue().encode())

    def read_history(self) -> list[EpochRecord]:
        """Return the rows of ``history.csv``, epochs 1, 2, 3 and so on; none before the first epoch has ended.

        Raises ``RunError`` for a damaged file.
        """
        path = self.path / HISTORY
        if not path.exists():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return _rows(csv.reader(file))
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise RunError(
                f"{path} is damaged ({reason(error)}); expected one row per epoch: resume the run or start anew"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone. Raises ``RunError`` when another process has it."""
        in_use = f"{self} is in use by another process; expected it free: wait for that one or stop it"
        with locked(self.path / LOCK, in_use, "keep the runs on a local disk (--runs)"):
            yield


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it has the number {text[:20]}")
    return number


def _rows(lines: Iterable[list[str]]) -> list[EpochRecord]:
    header, *rows = lines
    history = [EpochRecord(int(epoch), *map(float, numbers)) for epoch, *numbers in rows]
    if header != COLUMNS or [row.epoch for row in history] != list(range(1, len(history) + 1)):
        raise ValueError(f"it is not {','.join(COLUMNS)} of epoch 1, 2, 3, ...")
    return history


def create_run(root: Path, recipe: str, backend: str, now: datetime) -> Run:
    """Make a new folder below ``root`` that no other process has, named for time, recipe and backend.

    The name has the local time, for people; which run is the newest is told by its record, in UTC. Raises ``RunError``
    when the folder cannot be made.
    """
    stem = f"{now:%Y%m%d-%H%M%S}-{recipe}-{backend}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            with suppress(FileExistsError):
                (root / (stem + suffix)).mkdir()
                return Run(root / (stem + suffix))
    except OSError as error:
        raise RunError(
            f"a run could not be made in {root} ({reason(error)}); expected a writable folder: give another with --runs"
        ) from error
    raise RunError(f"{root} holds 999 runs called {stem}; expected fewer: wait a second")


def point_latest(run: Run) -> None:
    """Make ``latest`` beside ``run`` a link to it; where links are not allowed, the newest folder counts.

    So it does where ``latest`` is somebody else's file or link, which stays.
    """
    latest = run.path.parent / LATEST
    remove_abandoned(latest.parent)
    if os.path.lexists(latest) and not _is_own_link(latest):
        return
    link = temporary_name(latest)
    with suppress(OSError), cleanup_on_interrupt(partial(link.unlink, missing_ok=True)):
        link.symlink_to(run.path.name, target_is_directory=True)
        link.replace(latest)
    with suppress(OSError):
        link.unlink(missing_ok=True)


def finish_pointing_latest(run: Run) -> None:
    """Point ``latest`` to ``run`` where it leads to an earlier one: its process was killed before it could."""
    latest = run.path.parent / LATEST
    remove_abandoned(latest.parent)
    if not _is_own_link(latest) or _beginning(latest.resolve()) < _beginning(run.path.resolve()):
        point_latest(run)


def _is_own_link(latest: Path) -> bool:
    """Return whether ``latest`` is a link to a folder beside it that is a run, or to one that is gone."""
    if not latest.is_symlink():
        return False
    folder = latest.absolute().parent
    target = Path(os.path.normpath(folder / latest.readlink()))
    is_run = not os.path.lexists(target) or any(os.path.lexists(target / name) for name in (RECORD, LOCK))
    return is_run and target.parent == Path(os.path.normpath(folder))


def find_run(root: Path, name: str | None = None, *, with_weights: bool = False) -> Run:
    """Return the run called ``name``, a path or a folder below ``root``; by default the latest.

    The latest is the one that the link ``latest`` points to. Where ``latest`` is no link to a run beside it, as in a
    copy, it is the one that began last. ``with_weights`` passes over runs without best weights, one that was stopped in
    its first epoch for instance, unless there are no others or the run is named. Raises ``RunError`` when there is
    none.
    """
    runs = (Run(path.resolve() if path.is_symlink() else path) for path in _candidates(root, name) if _is_run(path))
    found = next(runs, None)
    if found is None:
        raise _no_run(root, name)
    if name or not with_weights:
        return found
    return next((run for run in chain([found], runs) if run.best_weights.is_file()), found)


def _candidates(root: Path, name: str | None) -> Iterator[Path]:
    """Yield the places where the run may lie, the best first."""
    latest = root / LATEST
    if name and (name != LATEST or _is_own_link(latest) or not os.path.lexists(latest)):
        yield from (Path(name), root / name)
        return
    if _is_own_link(latest):
        yield latest
    folders = (path.parent for path in root.glob(f"*/{RECORD}"))
    yield from sorted(folders, key=_beginning, reverse=True)


def _no_run(root: Path, name: str | None) -> RunError:
    if name and _is_run(Path(name).parent):
        return RunError(f"{name} lies in a run folder and is none; expected the folder: name {Path(name).parent}")
    wanted = f"{name} is no run folder" if name else f"{root} holds no run"
    return RunError(f"{wanted}; expected a folder with {RECORD}: train one with `cifarnet train`")


def _is_run(path: Path) -> bool:
    try:
        return (path / RECORD).is_file()
    except OSError as error:  # no permission, a name too long
        raise RunError(f"{path} could not be read ({reason(error)}); expected a run folder: pass another") from error


def _beginning(folder: Path) -> tuple[float, bool, int, str]:
    """Return what sorts run folders by their beginning: its time, then the number that ends the name.

    Where there is no sound record, its last change counts. A copy called ``latest`` sorts before what it is
    a copy of.
    """
    try:
        started = Run(folder).read_record().started.timestamp()
    except RunError:
        started = _changed_at(folder / RECORD)
    number = re.search(r"-(\d{1,3})$", folder.name)
    return started, folder.name != LATEST, int(number[1]) if number else 1, folder.name


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def json_text(document: Any) -> str:
    """Return JSON for any reader: ``null`` in place of infinities and NaN, for which JSON has no word."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_writable_model(path: Path) -> None:
    """Raise ``UsageError`` unless an export may write its files under the name ``path``; nothing is left behind.

    They are the model, its contract and its parity record. Where the last two would replace a file that no export
    wrote, the name is refused.
    """
    if path.suffix != ".onnx" or path.is_dir():
        raise UsageError(f"the file is to be called {str(path)!r}; expected a name that ends in .onnx: give another")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        probe(folder / path.with_suffix(PARITY_SUFFIX).name)  # the longest name that will be needed
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); expected a folder to write to: give another name"
        ) from error
    for suffix, keys in BESIDE.items():
        _require_own(path.with_suffix(suffix), keys)


def _require_own(path: Path, keys: frozenset[str]) -> None:
    """Raise ``UsageError`` where ``path`` is a file that no export wrote, or has the name of one that others write."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        found = dict.fromkeys(keys)
    except (OSError, ValueError, RecursionError):
        found = None
    if path.name in RESERVED or not (isinstance(found, dict) and keys <= found.keys()):
        raise UsageError(
            f"an export would write {path}, which is not a file of an export; expected a name whose {path.name} is "
            "free: give the model another name"
        )
