"""Whoever watches a training, and what it is told."""

from dataclasses import dataclass
from typing import Protocol

from cifarnet.run.folder import EpochRecord


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever watches."""

    epoch: int
    step: int
    steps: int
    """Steps of one epoch."""
    train_loss: float
    """Mean of the epoch so far, nats."""
    train_accuracy: float
    """Fraction, of the epoch so far."""
    seconds: float
    """Spent in the epoch so far, all sessions together."""
    images_per_s: float
    """Of the epoch so far."""
    best_epoch: int
    best_loss: float
    patience_left: int


class Observer(Protocol):
    """Whoever watches a training."""

    def on_progress(self, progress: Progress) -> None:
        """Take note of an epoch under way; called every few steps."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Take note of a finished epoch."""


class Silent:
    """An observer that says nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Say nothing."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Say nothing."""
