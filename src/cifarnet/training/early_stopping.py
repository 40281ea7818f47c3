"""Early stopping on the validation loss, with a state that can be written down and taken up again."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Keras' ``EarlyStopping`` with ``mode="min"``, save that its state survives a resume and NaN never wins.

    The best epoch is the last one whose loss fell by more than ``min_delta`` below the best before it.
    """

    min_delta: float
    patience: int
    best_loss: float = math.inf
    """Validation loss of the best epoch, nats."""
    best_epoch: int = 0
    """Number of the best epoch, counted from 1; 0 before there is one."""
    waited: int = 0
    """Epochs since the best one."""

    def update(self, epoch: int, loss: float) -> bool:
        """Take in the validation loss of ``epoch`` and return whether that epoch is the new best."""
        improved = loss < self.best_loss - self.min_delta  # False for NaN
        if improved:
            self.best_loss, self.best_epoch, self.waited = loss, epoch, 0
        else:
            self.waited += 1
        return improved

    @property
    def patience_left(self) -> int:
        """Return the epochs that may still pass without improvement; training stops at 0."""
        return max(self.patience - self.waited, 0)
