"""Observers of a training run, and the values that they receive."""

from dataclasses import dataclass

from cifarnet.run.folder import EpochRecord

HEADER = "epoch  train loss  accuracy  valid. loss  accuracy  best  patience  time, images"
"""Header of the lines that ``Progress.line`` returns."""


@dataclass(frozen=True)
class Progress:
    """Progress of the current epoch."""

    epoch: int
    """Number of the epoch, counted from 1."""
    step: int
    """Number of steps taken in the epoch."""
    steps: int
    """Number of steps of an epoch."""
    train_loss: float
    """Mean training loss of the epoch so far, nats."""
    train_accuracy: float
    """Training accuracy of the epoch so far, 0 to 1."""
    seconds: float
    """Time spent in the epoch so far, all sessions together."""
    images_per_s: float
    """Training images per second in the epoch so far, of all workers together."""
    best_epoch: int
    """Number of the best epoch; 0 before there is one."""
    best_loss: float
    """Validation loss of the best epoch, nats; infinite before there is one."""
    patience_left: int
    """Epochs that may still pass without improvement."""
    workers: int = 1
    """Number of workers."""

    def line(self, finished: EpochRecord | None = None) -> str:
        """Return the current epoch as a line of a table, with the validation split only if it has ``finished``."""
        train: Progress | EpochRecord = self
        validation = f"{f'step {self.step}/{self.steps}':<21}"
        if finished is not None:
            train = finished
            validation = f"{finished.validation_loss:11.4f}  {100 * finished.validation_accuracy:7.2f}%"
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return (
            f"{self.epoch:5}  {train.train_loss:10.4f}  {100 * train.train_accuracy:7.2f}%  {validation}  "
            f"{self.best_epoch or '-':>4}  {self.patience_left:8}  "
            f"{self.seconds:.{0 if self.seconds >= 10 else 1}f} s, {self.images_per_s:,.0f}/s{workers}"
        )


class Observer:
    """Base class of observers: override the methods of interest."""

    def on_progress(self, progress: Progress) -> None:
        """Handle progress within an epoch; called every few steps."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Handle the end of an epoch; ``record`` is its row of ``history.csv``."""


class ProgressPrinter(Observer):
    """Print a line per finished epoch to stdout, with the columns of ``cifarnet train``."""

    def __init__(self) -> None:
        self._header = f"{HEADER}\n"

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Print the line of a finished epoch; the header before the first."""
        print(f"{self._header}{progress.line(record)}", flush=True)  # noqa: T201  # asked for by the caller
        self._header = ""
