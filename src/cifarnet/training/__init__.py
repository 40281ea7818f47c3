"""Fit the network, stop early, survive interruption and resume exactly."""

from .interrupt import stop_on_signal
from .loop import Observer, Outcome, Progress, train
from .optimizer import build_optimizer, learning_rate_at

__all__ = ["Observer", "Outcome", "Progress", "build_optimizer", "learning_rate_at", "stop_on_signal", "train"]
