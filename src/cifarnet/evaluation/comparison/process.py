"""Train a recipe on one backend in a subprocess, which ends when this process ends, in whatever way.

The subprocess runs this module. It prints each epoch and the result to stdout as JSON; the last line of its stderr has
the reason if it fails.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.dataset import Dataset
from cifarnet.errors import BackendError, CifarnetError, RunError
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord
from cifarnet.run.origin import DataRecord
from cifarnet.run.typed_json import read
from cifarnet.system import peak_memory_bytes, prepare_process, print_result, results_in
from cifarnet.training.observer import Observer, Progress

EpochCallback = Callable[[str, int, EpochRecord, float], object]
"""Called with backend, seed, history row and seconds of each finished epoch."""


def train_in_child(
    backend: str, settings: Recipe, dataset: Dataset, runs: Path, arrays: Path, on_epoch: EpochCallback
) -> dict[str, Any]:
    """Train in a subprocess, which writes its run to ``runs`` and its arrays to ``arrays`` (.npz); return its result.

    Raises ``BackendError`` with the last line of its stderr, or the signal that ended it, if it fails.
    """
    order = {
        "recipe": settings.name,
        "model": settings.model.to_json(),
        "train": settings.train.to_json(),
        "data": DataRecord.of(dataset).to_json(),
        "runs": str(runs),
        "arrays": str(arrays),
    }
    command = [sys.executable, "-m", "cifarnet.evaluation.comparison.process", json.dumps(order)]
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


def _exit_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the parent process ends, even if it is killed
    os._exit(1)


class _EpochPrinter(Observer):
    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        print_result(epoch=asdict(record), seconds=progress.seconds)


def _train(order: dict[str, Any]) -> dict[str, Any]:
    from cifarnet.evaluation.scoring import predict  # Keras, now that its framework is chosen
    from cifarnet.export.export_run import export_run
    from cifarnet.model.network import predictor
    from cifarnet.runtime import open_model
    from cifarnet.training.begin import begin
    from cifarnet.training.first_step import first_step
    from cifarnet.training.same_data import require_same_data
    from cifarnet.training.train import resume

    data: DataRecord = read(DataRecord, order["data"], "data")
    model, train = ModelConfig.from_json(order["model"]), TrainConfig.from_json(order["train"])
    settings = Recipe(name=order["recipe"], model=model, train=train)
    dataset = data.resolved(train.seed).load_dataset()
    require_same_data(data, dataset)
    first = first_step(settings, dataset)
    run = begin(settings, dataset, Path(order["runs"]))
    record = resume(run, dataset, observer=_EpochPrinter()).record
    memory = peak_memory_bytes()  # before the export, which is not part of training
    if not record.best_epoch:
        raise RunError("training ended without a usable epoch; expected a finite loss: lower the learning rate")
    exported = export_run(run, dataset)
    outputs = {
        "logits": predict(predictor(run.load_model()), dataset.test.images),
        "file_logits": predict(open_model(exported.path, threads=0).logits, dataset.test.images),
    }
    gradients = {f"gradient/{path}": array for path, array in first.gradients.items()}
    np.savez(order["arrays"], allow_pickle=False, **outputs, **gradients)
    return {
        "run": str(run),
        "first_loss": first.loss,
        "peak_memory_bytes": memory,
        "devices": adapter().devices(),
        "file_sha256": exported.sha256,
    }


if __name__ == "__main__":
    try:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        prepare_process()
        choose()
        print_result(**_train(json.loads(sys.argv[1])))
    except CifarnetError as error:
        sys.exit(str(error))
