"""Fit the network, stop early, survive interruption, resume exactly and write the record."""

from .experiment import (
    calibration_name,
    calibration_of,
    carry_out,
    load_best,
    load_best_and_epoch,
    record_of,
    require_same_data,
    start,
)
from .interrupt import stop_on_signal
from .loop import train
from .observer import Observer, Progress, Silent

__all__ = [
    "Observer",
    "Progress",
    "Silent",
    "calibration_name",
    "calibration_of",
    "carry_out",
    "load_best",
    "load_best_and_epoch",
    "record_of",
    "require_same_data",
    "start",
    "stop_on_signal",
    "train",
]
