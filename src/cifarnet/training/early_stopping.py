"""Early stopping on the validation loss, with a state that can be saved."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Keras' ``EarlyStopping`` with ``mode="min"``, with a state that survives a resume.

    The best epoch is the last one whose loss was more than ``min_delta`` below the best before it. NaN never counts as
    an improvement.
    """

    min_delta: float
    """In nats, or with ``is_relative`` a fraction of the best loss so far."""
    patience: int
    best_loss: float = math.inf
    """Validation loss of the best epoch, nats."""
    best_epoch: int = 0
    """Number of the best epoch, counted from 1; 0 before there is one."""
    waited: int = 0
    """Epochs since the best one."""
    is_relative: bool = False
    """Set for a loss other than the cross-entropy, whose unit and size are unknown."""

    def update(self, epoch: int, loss: float) -> bool:
        """Add the validation loss of ``epoch`` and return whether that epoch is the new best."""
        unit = abs(self.best_loss) if self.is_relative and self.best_epoch else 1.0
        improved = loss < self.best_loss - self.min_delta * unit  # False for NaN
        if improved:
            self.best_loss, self.best_epoch, self.waited = loss, epoch, 0
        else:
            self.waited += 1
        return improved

    @property
    def patience_left(self) -> int:
        """Number of epochs that may still pass without improvement; training stops at 0."""
        return max(self.patience - self.waited, 0)
