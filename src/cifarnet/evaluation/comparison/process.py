"""Train a recipe on one backend in a subprocess, which ends when this process ends, in whatever way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from cifarnet.dataset import Dataset
from cifarnet.errors import BackendError
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord
from cifarnet.run.origin import DataRecord
from cifarnet.system import results_in

EpochCallback = Callable[[str, int, EpochRecord, float], object]
"""Called with backend, seed, history row and seconds of each finished epoch."""


def train_in_child(
    backend: str, settings: Recipe, dataset: Dataset, runs: Path, arrays: Path, on_epoch: EpochCallback
) -> dict[str, Any]:
    """Train ``settings`` on ``backend`` in a subprocess and return its result.

    The subprocess writes its run to ``runs`` and its arrays to ``arrays`` (.npz). Raises ``BackendError`` with the last
    line of its stderr, or the signal that ended it, if it fails.
    """
    order = {
        "recipe": settings.name,
        "model": settings.model.to_json(),
        "train": settings.train.to_json(),
        "data": DataRecord.of(dataset).to_json(),
        "runs": str(runs),
        "arrays": str(arrays),
    }
    command = [sys.executable, "-m", "cifarnet.evaluation.comparison.child", json.dumps(order)]
    environment = os.environ | {"KERAS_BACKEND": backend}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        # A file and not another pipe, which would fill up while stdout is read. The subprocess watches its stdin.
        with subprocess.Popen(  # noqa: S603  # our module in this interpreter
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                result = _read_results(process, backend, settings.train.seed, on_epoch)
            finally:
                process.kill()
        if process.returncode or result is None:
            raise BackendError(
                f"training on {backend} with seed {settings.train.seed} failed ({_reason(process, stderr)}); expected "
                f"a finished run: try it alone with cifarnet train --backend {backend}"
            )
        return result


def _read_results(
    process: subprocess.Popen[str], backend: str, seed: int, on_epoch: EpochCallback
) -> dict[str, Any] | None:
    assert process.stdout is not None
    final = None
    for result in results_in(process.stdout):
        if "epoch" in result:
            on_epoch(backend, seed, EpochRecord(**result["epoch"]), result["seconds"])
        else:
            final = result
    process.wait()
    return final


def _reason(process: subprocess.Popen[str], stderr: IO[str]) -> str:
    if process.returncode < 0:  # killed by the system when memory is exhausted, for example
        return f"ended by {signal.Signals(-process.returncode).name}"
    stderr.seek(0)
    return (stderr.read().strip().splitlines() or ["no message"])[-1]
