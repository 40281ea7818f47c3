"""Observers of a training run, and the values that they receive."""

from dataclasses import dataclass

from cifarnet.run.folder import EpochRecord


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


class Observer:
    """Base class of observers: override the methods of interest."""

    def on_progress(self, progress: Progress) -> None:
        """Handle progress within an epoch; called every few steps."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Handle the end of an epoch; ``record`` is its row of ``history.csv``."""
