"""Fit the network, stop early, survive interruption, resume exactly and write the record."""

from .interrupt import stop_on_signal
from .job import Job, carry_out, job_of, require_resumable, score_run, start
from .loop import Observer, Progress, train

__all__ = [
    "Job",
    "Observer",
    "Progress",
    "carry_out",
    "job_of",
    "require_resumable",
    "score_run",
    "start",
    "stop_on_signal",
    "train",
]
