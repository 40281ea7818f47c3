"""Fit the network, stop early, survive interruption, resume exactly and write the record."""

from .experiment import calibration_of, carry_out, load_best, require_same_data, start, warm_start_of
from .interrupt import stop_on_signal
from .loop import Observer, Progress, Silent, train

__all__ = [
    "Observer",
    "Progress",
    "Silent",
    "calibration_of",
    "carry_out",
    "load_best",
    "require_same_data",
    "start",
    "stop_on_signal",
    "train",
    "warm_start_of",
]
