"""Fit the network, stop early, survive interruption, resume exactly and write the record."""

from .experiment import carry_out, load_best, require_same_data, score_run, start
from .interrupt import stop_on_signal
from .loop import Observer, Progress, Silent, train

__all__ = [
    "Observer",
    "Progress",
    "Silent",
    "carry_out",
    "load_best",
    "require_same_data",
    "score_run",
    "start",
    "stop_on_signal",
    "train",
]
