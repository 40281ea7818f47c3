"""Train one model of a comparison: ``python -m cifarnet.evaluation.comparison.child ORDER``, started by ``process``.

Prints each epoch and the result to stdout as JSON. The last line of stderr has the reason if it fails.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import CifarnetError, RunError
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord
from cifarnet.run.origin import DataRecord
from cifarnet.run.typed_json import read
from cifarnet.system import peak_memory_bytes, prepare_process, print_result
from cifarnet.training.observer import Observer, Progress


def _exit_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the parent process ends, even if it is killed
    os._exit(1)


class _EpochPrinter(Observer):
    """Training observer that prints each finished epoch for the parent process."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Print the epoch and its duration."""
        print_result(epoch=asdict(record), seconds=progress.seconds)


def _train(order: dict[str, Any]) -> dict[str, Any]:
    from cifarnet.evaluation.scoring import predict  # Keras, now that its framework is chosen
    from cifarnet.export.export import export_run
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
