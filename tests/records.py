"""Run records as JSON documents, for tests that write any of them."""

import json
from pathlib import Path
from typing import Any

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.run.folder import RECORD, Run

RUNNING = {
    "format": 1,
    "status": "running",
    "recipe": "seed",
    "backend": "torch",
    "seed": 0,
    "started": "2026-03-04T05:06:07+00:00",
    "model": ModelConfig().to_json(),
    "train": TrainConfig().to_json(),
    "data": {
        "source": "synthetic",
        "name": "synthetic",
        "fingerprint": "0" * 64,
        "split_by": None,
        "split_seed": 0,
        "train_images": 6,
        "test_images": 3,
        "labels": [str(label) for label in range(10)],
    },
    "hold_out": {"train": 4, "validation": 2, "fingerprint": "0" * 64},
    "versions": {"python": "3.11.7", "cifarnet": "0.1.0", "keras": "3.15.1", "torch": "2.13.0"},
    "machine": {"system": "Linux", "processor": "A Processor", "cores": 2, "devices": ["cpu"], "parts": 1},
}
"""Record of a run that has just begun."""
FINISHED = RUNNING | {
    "status": "finished",
    "why_stopped": "epochs",
    "epochs": 3,
    "best_epoch": 3,
    "metrics": {
        "validation": {"loss": 0.75, "accuracy": 0.5},
        "test": {"loss": 0.7, "accuracy": 0.75, "images": 100},
    },
    "elapsed_s": 60.0,
    "seconds_per_epoch": 20.0,
}
"""Record of a finished run."""


def document(run: Run) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    found: dict[str, Any] = json.loads((run.path / RECORD).read_text())
    return found


def put(run: Run, content: dict[str, Any]) -> None:
    """Write ``run.json``, whatever it holds."""
    Path(run.path / RECORD).write_text(json.dumps(content))
