"""Processes of which each trains on one backend, and that end with the one that started them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from cifarnet.dataset import Dataset
from cifarnet.errors import BackendError
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord
from cifarnet.run.record import DataRecord
from cifarnet.system import results_in

GOODBYE_S = 10
"""Seconds that a process has to end before it is killed."""

EpochWatcher = Callable[[str, int, EpochRecord, float], object]
"""Told backend, seed, row and seconds of each finished epoch."""


def train_in_child(
    backend: str, job: Recipe, dataset: Dataset, runs: Path, arrays: Path, watch: EpochWatcher
) -> dict[str, Any]:
    """Train ``job`` with ``dataset`` on ``backend`` in a process of its own and return what that told at its end.

    The process leaves its run below ``runs`` and its arrays in ``arrays`` (.npz), and never outlives this call. Raises
    ``BackendError`` with its last line, or the signal that ended it, when it fails.
    """
    order = {"job": _as_record(job, dataset), "runs": str(runs), "arrays": str(arrays)}
    command = [sys.executable, "-m", "cifarnet.evaluation.comparison.child", json.dumps(order)]
    environment = os.environ | {"KERAS_BACKEND": backend}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as talk:
        # Our own module in our own interpreter; a file takes its talk, since nobody empties a second pipe.
        with subprocess.Popen(  # noqa: S603
            command, env=environment, stdout=subprocess.PIPE, stderr=talk, encoding="utf-8", errors="replace"
        ) as process:
            try:
                result = _listen(process, backend, job.train.seed, watch)
            finally:
                _end(process)
        if process.returncode or result is None:
            raise BackendError(
                f"training on {backend} with seed {job.train.seed} failed ({_reason(process, talk)}); expected a "
                f"finished run: try it alone with cifarnet train --backend {backend}"
            )
        return result


def _as_record(job: Recipe, dataset: Dataset) -> dict[str, Any]:
    return {
        "recipe": job.name,
        "model": job.model.to_json(),
        "train": job.train.to_json(),
        "data": DataRecord.of(dataset).to_json(),
    }


def _listen(process: subprocess.Popen[str], backend: str, seed: int, watch: EpochWatcher) -> dict[str, Any] | None:
    """Return what the process told last, once its output has ended; nothing when it told no result."""
    assert process.stdout is not None
    result = None
    for what in results_in(process.stdout):
        if "epoch" in what:
            watch(backend, seed, EpochRecord(**what["epoch"]), what["seconds"])
        else:
            result = what
    process.wait()
    return result


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _reason(process: subprocess.Popen[str], talk: IO[str]) -> str:
    if process.returncode < 0:  # by the system for want of memory, for instance: it had no time to say so
        return f"ended by {signal.Signals(-process.returncode).name}"
    talk.seek(0)
    return (talk.read().strip().splitlines() or ["no message"])[-1]


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into ``KeyboardInterrupt``; put the handlers back after.

    A shell's background process inherits that Ctrl-C is ignored, and SIGTERM would end this process but not the one
    that trains.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
