"""The contract of a model file: the metadata that an app needs to use it."""

from typing import Any

from cifarnet.contract import BATCH_DIMENSION, CONTRACT_VERSION, INPUT, OUTPUTS, RECIPE
from cifarnet.run_record import Calibration, RunRecord

TRAINING_FACTS = ("recipe", "backend", "seed", "versions", "train", "hold_out", "why_stopped", "epochs", "best_epoch")
"""Keys copied from run.json; none names a time, a path or a machine."""
DATA_FACTS = ("name", "fingerprint", "split_by", "split_seed", "train_images", "test_images")
"""Keys copied from its dataset."""


def describe(record: RunRecord, precision: str, calibration: Calibration, *, flip: bool = False) -> dict[str, Any]:
    """Return the contract of the model trained by the run with ``record``, without the parity check's result.

    ``calibration`` was fitted to the trained model and applies to every precision. ``flip`` is whether the graph
    applies test-time augmentation.
    """
    document, data, labels = record.to_json(), record.data.to_json(), list(record.data.labels)
    height, width, channels = record.model.image_shape
    warm_start, validation = record.warm_start, record.metrics.validation
    started = {} if warm_start is None else {"warm_start": {"weights_sha256": warm_start.weights_sha256}}
    return {
        "version": CONTRACT_VERSION,
        "labels": labels,
        "input": {**INPUT, "shape": [BATCH_DIMENSION, height, width, channels]},
        "outputs": {name: {**each, "shape": [BATCH_DIMENSION, len(labels)]} for name, each in OUTPUTS.items()},
        "calibration": calibration.to_json(),
        "resize": dict(RECIPE) | {"height": height, "width": width},
        "precision": precision,
        "flip": flip,
        "model": record.model.to_json(),
        # Except for its best epoch, the results of an unfinished run are null.
        "training": {name: document.get(name) for name in TRAINING_FACTS}
        | {
            "data": {name: data[name] for name in DATA_FACTS if name in data},
            "validation": None if validation is None else validation.to_json(),
        }
        | started,
    }
