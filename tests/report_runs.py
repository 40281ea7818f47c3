"""Run folders to report on, made without training: record, history, model file and measurements."""

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.dataset import Dataset, Split
from cifarnet.evaluation.calibration import calibrate
from cifarnet.evaluation.corruptions import DRAWING, FAMILIES
from cifarnet.evaluation.metrics import Evaluation, measure
from cifarnet.evaluation.robustness import FamilyResult, Robustness, Tally
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.typed_json import members
from tests.records import RUNNING, put
from tests.runtime import models

LABELS = ("red", "green", "blue")


def dataset_of(labels: tuple[str, ...] = LABELS, images: int = 120) -> Dataset:
    """Return noise with labels, each class in turn."""
    rng = np.random.default_rng(0)
    parts = [
        Split(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count, dtype=np.int32) % len(labels))
        for count in (6, images)
    ]
    return Dataset("photos", *parts, labels)


def logits_for(dataset: Dataset) -> np.ndarray:
    """Return logits that are right about two images of three."""
    rng = np.random.default_rng(1)
    right = np.eye(len(dataset.labels), dtype=np.float32)[dataset.test.labels]
    return (2 * right + rng.normal(0, 1, right.shape)).astype(np.float32)


def evaluation_of(dataset: Dataset, temperature: float | None = 1.5) -> Evaluation:
    return measure(logits_for(dataset), dataset.test.labels, dataset.labels, temperature)


def history_of(epochs: int = 12) -> list[EpochRecord]:
    return [
        EpochRecord(epoch, 0.001, 2 / epoch, 1 - 0.6 / epoch, 1 + abs(epoch - 7) / 10, 0.7 - abs(epoch - 7) / 50)
        for epoch in range(1, epochs + 1)
    ]


def record_of(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    split = {"train_images": len(dataset.train), "test_images": len(dataset.test), "labels": list(dataset.labels)}
    facts = {"source": "/home/somebody/secret/photos", "name": dataset.name, "fingerprint": dataset.fingerprint}
    return (
        RUNNING
        | {
            "status": "finished",
            "model": ModelConfig(classes=len(dataset.labels), dense_units=(16,)).to_json(),
            "train": TrainConfig(epochs=12).to_json(),
            "data": facts | split,
            "why_stopped": "epochs",
            "epochs": 12,
            "best_epoch": 7,
            "metrics": {"validation": {"loss": 1.0, "accuracy": 0.7}},
            "calibration": members(calibrate(logits_for(dataset), dataset.test.labels)),
            "elapsed_s": 60.0,
            "seconds_per_epoch": 5.0,
        }
        | changes
    )


def parity_of(sha256: str) -> dict[str, Any]:
    check = {"images": 120, "probability_difference": 1.5e-6, "changed_classes": 0, "first_offender": None}
    return {
        "precision": "float32",
        "sha256": sha256,
        "backend": "torch",
        "images": 120,
        "trained_accuracy": 0.8,
        "accuracy": 0.8,
        "checks": [{"name": "test set, optimised", **check}, {"name": "extreme inputs, plain", **check}],
    }


def robustness_of(sha256: str) -> dict[str, Any]:
    families = {
        name: FamilyResult.of(Tally.of(84 - step * (at + 1), 120) for step in range(5))
        for at, name in enumerate(FAMILIES)
    }
    error = fmean(each.mean_error for each in families.values())
    return Robustness(
        sha256=sha256,
        seed=0,
        images=120,
        images_in_split=120,
        drawing=DRAWING,
        clean=Tally.of(96, 120),
        families=families,
        extra={},
        mean_corruption_error=error,
        added_error=error - 0.2,
        worst=tuple(sorted(families, key=lambda name: -families[name].mean_error)[:3]),
    ).to_json()


def run_of(folder: Path, dataset: Dataset, **changes: Any) -> Run:
    """Return a run in ``folder`` with everything that a report tells of."""
    folder.mkdir(parents=True)
    run = Run(folder)
    put(run, record_of(dataset, **changes))
    run.write_history(history_of())
    write_model(run)
    return run


def write_model(run: Run, **contract: Any) -> None:
    """Write a model file whose contract has these changes, and what was measured of it, into the folder of ``run``."""
    proof = {"bars": {"probability": 1e-5, "accuracy_drop": 0.0}}
    temperature = contract.get("calibration", {}).get("temperature")
    graph = models.graph(temperature=temperature)
    content = models.content(graph, models.contract(**({"proof": proof} | contract)))
    run.model.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    for name, document in (("model.parity.json", parity_of(sha256)), ("robustness.json", robustness_of(sha256))):
        (run.path / name).write_text(json.dumps(document))
