"""The run folder: its files, each written atomically."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarnet.arguments import PATH, require
from cifarnet.atomic import locked, probe, write_atomically
from cifarnet.contract import CONTRACT_SUFFIX, PARITY_SUFFIX, PUBLISHED_ROBUSTNESS, ROBUSTNESS
from cifarnet.errors import RunError, UsageError, reason, shell_word, shown

if TYPE_CHECKING:  # a tenth of the time of `cifarnet predict`, which needs no record
    from .record import RunRecord

RECORD = "run.json"
HISTORY = "history.csv"
BEST_WEIGHTS = "best.weights.h5"
START_WEIGHTS = "start.weights.h5"
SEEN = "seen.npy"
CHECKPOINTS = "checkpoint"
MODEL = "model.onnx"
LATEST = "latest"
"""Name of the link to the latest run, beside the runs."""
LOCK = ".lock"
EXPORT_LOCK = ".export.lock"
RESERVED = frozenset((RECORD, ROBUSTNESS, PUBLISHED_ROBUSTNESS, "reproduction.json"))
"""Files of a run folder that no export may write, whether they exist or not."""
BESIDE = {
    CONTRACT_SUFFIX: frozenset(("version", "labels", "input", "outputs")),
    PARITY_SUFFIX: frozenset(("precision", "sha256", "checks")),
}
"""Suffixes of the files that an export writes beside a model, and keys that identify each."""


@dataclass(frozen=True)
class EpochRecord:
    """One row of ``history.csv``. It has no times, so that a resumed run writes the same file."""

    epoch: int
    """Number of the epoch, counted from 1."""
    learning_rate: float
    """Learning rate at the last step of the epoch."""
    train_loss: float
    """Mean training loss of the epoch, with augmentation, dropout and label smoothing, nats."""
    train_accuracy: float
    """Training accuracy of the epoch, 0 to 1, with augmentation and dropout."""
    validation_loss: float
    """Mean loss on the validation split after the epoch, nats."""
    validation_accuracy: float
    """Accuracy on the validation split after the epoch, 0 to 1."""

    @property
    def comparable_loss(self) -> float:
        """Validation loss, or NaN, which never counts as an improvement, if a batch of the epoch overflowed."""
        return self.validation_loss if math.isfinite(self.train_loss) else math.nan


COLUMNS = [field.name for field in fields(EpochRecord)]


@dataclass(frozen=True)
class Run:
    """A run folder: the record, the history, the weights and the exported model of one training run."""

    path: Path
    """Absolute path of the folder."""

    def __post_init__(self) -> None:
        require("the path of a run", self.path, PATH)
        object.__setattr__(self, "path", Path(self.path).absolute())  # valid in any working directory

    def __str__(self) -> str:
        """Return the path, relative to the working directory if it lies there."""
        return shown(self.path)

    @property
    def best_weights(self) -> Path:
        """Path of the weights of the best epoch, in Keras' ``.weights.h5`` format."""
        return self.path / BEST_WEIGHTS

    @property
    def start_weights(self) -> Path:
        """Path of the weights that fine-tuning starts from."""
        return self.path / START_WEIGHTS

    @property
    def seen(self) -> Path:
        """Path of the digests of all training images of this run and of the runs that it started from."""
        return self.path / SEEN

    @property
    def model(self) -> Path:
        """Path of the exported model."""
        return self.path / MODEL

    @property
    def checkpoints(self) -> Path:
        """Path of the folder with the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def record(self) -> "RunRecord":
        """The content of ``run.json``, read each time. Raises ``RunError`` if it is missing or damaged."""
        from .record import RunRecord

        path = self.path / RECORD
        try:
            document = json.loads(path.read_bytes(), parse_constant=_finite, parse_float=_finite)
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{path} could not be read ({reason(error)}); expected the record of a run: pass a run folder"
            ) from error
        if not isinstance(document, dict):
            raise RunError(f"{path} holds no JSON object; expected one: pass a run folder")
        return RunRecord.from_json(document)

    def load_model(self) -> Any:
        """Return a ``keras.Model`` with the weights of the best epoch, on the backend of this process.

        The model maps images uint8 (n, height, width, 3), RGB, 0-255, to probabilities float32 (n, classes). Chooses a
        backend if none is chosen yet. Raises ``RunError`` if the run has no best weights or they are not those of its
        record, ``ModelError`` if they do not fit the network, and ``BackendError``.
        """
        require_weights(self)
        from cifarnet.backends import ensure_backend  # imports numpy, which --help does not need

        ensure_backend()
        from cifarnet.model.network import build_model  # Keras, now that its backend is chosen
        from cifarnet.model.weights import load_weights

        model = build_model(self.record.model)
        load_weights(model, self.best_weights)
        return model

    def write_record(self, record: "RunRecord") -> None:
        """Write ``run.json``."""
        text = json.dumps(record.to_json(), indent=2, allow_nan=False)
        write_atomically(self.path / RECORD, f"{text}\n".encode())

    def write_history(self, rows: Sequence[EpochRecord]) -> None:
        """Write ``history.csv``, with the shortest exact form of each float."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(astuple, rows))
        write_atomically(self.path / HISTORY, text.getvalue().encode())

    def read_history(self) -> list[EpochRecord]:
        """Return the rows of ``history.csv``, one per finished epoch. Raises ``RunError`` for a damaged file."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return _rows(csv.reader(file))
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise RunError(
                f"{path} is damaged ({reason(error)}); expected one row per epoch: resume the run or train again"
            ) from error

    def locked(self) -> AbstractContextManager[None]:
        """Lock the run for this process. Raises ``RunError`` if another process uses it."""
        in_use = f"{self} is in use by another process; expected it free: wait for that one or stop it"
        return locked(self.path / LOCK, in_use, "keep the runs on a local disk (--runs, in Python runs=)")


def _finite(text: str) -> float:
    """Return a number. Raises ``ValueError`` if it is infinite or NaN, which ``write_record`` could not write."""
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


def require_weights(run: Run) -> None:
    """Raise ``RunError`` unless the best weights exist and match the digest in the record, if it has one."""
    record = run.record
    if run.best_weights.is_file():
        recorded = record.weights_sha256
        if recorded is not None and (found := weights_digest(run)) != recorded:
            raise RunError(
                f"{run.best_weights} has the SHA-256 {found[:12]}…; expected {recorded[:12]}… as when its "
                "training ended: restore it or start a new run"
            )
        return
    if record.why_stopped == "nan":
        raise RunError(
            f"{run} has no best weights, since its loss was no number before an epoch was done; expected a run with a "
            "finite loss: start a new one with a lower learning rate"
        )
    if record.status == "finished":
        raise RunError(f"{run} has lost its best weights; expected {run.best_weights}: restore it or start a new run")
    raise RunError(
        f"{run} has no best weights yet; expected at least one finished epoch: continue with "
        f"`cifarnet train --resume {shell_word(str(run))}`"
    )


def weights_digest(run: Run) -> str:
    """Return the SHA-256 (hex) of the file with the best weights of ``run``. Raises ``RunError``."""
    try:
        return hashlib.sha256(run.best_weights.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{run.best_weights} could not be read ({reason(error)}): check its permissions") from error


def require_writable_model(path: Path) -> None:
    """Raise ``UsageError`` unless an export can write ``path``, and beside it replaces only files of an export."""
    if path.suffix != ".onnx" or path.is_dir():
        raise UsageError(
            f"the file is to be called {str(path)!r}; expected a name that ends in .onnx, such as {MODEL}: give another"
        )
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
    """Raise ``UsageError`` if ``path`` was not written by an export, or has the name of another file of a run."""
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
