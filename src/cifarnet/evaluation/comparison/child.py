"""One training of a comparison, in a process of its own: ``python -m cifarnet.evaluation.comparison.child ORDER``.

``ORDER`` is JSON: the job as a run's record has it, the folder of the runs, and the file to leave arrays in. It tells
of each epoch and then of its result on stdout, as JSON. What went wrong is the last line on stderr.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import CifarnetError, RunError
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord
from cifarnet.run.record import DataRecord
from cifarnet.run.typed_json import read
from cifarnet.system import peak_memory_bytes, prepare_process, print_result
from cifarnet.training.observer import Observer, Progress


def main(order: dict[str, Any]) -> None:
    """Carry out one order and tell of it on stdout."""
    prepare_process()
    choose()
    print_result(**_trained(order["job"], Path(order["runs"]), Path(order["arrays"])))


class _Teller(Observer):
    """An observer that tells each epoch to the process that waits."""

    def on_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Tell the epoch and its seconds."""
        print_result(epoch=asdict(record), seconds=progress.seconds)


def _trained(ordered: dict[str, Any], runs: Path, arrays: Path) -> dict[str, Any]:
    from cifarnet.evaluation.scoring import predict  # Keras comes with what follows, now that its framework is chosen
    from cifarnet.export.export import export_run
    from cifarnet.model.network import predictor
    from cifarnet.runtime import open_model
    from cifarnet.training.begin import begin
    from cifarnet.training.first_step import first_step
    from cifarnet.training.train import require_same_data, resume

    data: DataRecord = read(DataRecord, ordered["data"], "data")
    model, train = ModelConfig.from_json(ordered["model"]), TrainConfig.from_json(ordered["train"])
    job = Recipe(name=ordered["recipe"], model=model, train=train)
    dataset = data.origin(train.seed).load_dataset()
    require_same_data(data, dataset)  # else it would be compared with trainings on other images
    first = first_step(job, dataset)
    run = begin(job, dataset, runs)
    record = resume(run, dataset, observer=_Teller()).record
    memory = peak_memory_bytes()  # before the export, which is no part of training
    if not record.best_epoch:
        raise RunError("training ended without a usable epoch; expected a finite loss: lower the learning rate")
    exported = export_run(run, dataset)
    images = dataset.test.images
    file_logits = predict(open_model(exported.path, threads=0).logits, images)
    logits = predict(predictor(run.load_model()), images)
    answers = {"logits": logits, "file_logits": file_logits, "labels": dataset.test.labels}
    answers |= {f"gradient/{path}": array for path, array in first.gradients.items()}
    np.savez(arrays, allow_pickle=False, **answers)
    return {
        "run": str(run),
        "first_loss": first.loss,
        "peak_memory_bytes": memory,
        "devices": adapter().devices(),
        "file_sha256": exported.sha256,
    }


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except CifarnetError as error:
        sys.exit(str(error))
