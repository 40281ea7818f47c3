"""The contract of a model file: the metadata that an app needs to use it."""

from collections.abc import Mapping
from typing import Any

from cifarnet.config import ModelConfig
from cifarnet.contract import BATCH_DIMENSION, CONTRACT_VERSION, INPUT, OUTPUTS, RECIPE

TRAINING_FACTS = ("recipe", "backend", "seed", "versions", "train", "hold_out", "why_stopped", "epochs", "best_epoch")
"""Keys copied from run.json; none names a time, a path or a machine."""
DATA_FACTS = ("name", "fingerprint", "split_by", "split_seed", "train_images", "test_images")
"""Keys copied from its dataset."""
LATER_FACTS = frozenset(("split_by", "split_seed"))
"""Keys that earlier versions did not record."""


def describe(
    record: Mapping[str, Any], precision: str, calibration: Mapping[str, Any], *, flip: bool = False
) -> dict[str, Any]:
    """Return the contract of the model trained by the run with ``record``, without the parity check's result.

    ``calibration`` was fitted to the trained model and applies to every precision. ``flip`` is whether the graph
    applies test-time augmentation.
    """
    config, data = ModelConfig.from_json(record["model"]), record["data"]
    labels = data["labels"]
    height, width, channels = config.image_shape
    warm_start = record.get("warm_start")
    started = {} if warm_start is None else {"warm_start": {"weights_sha256": warm_start["weights_sha256"]}}
    return {
        "version": CONTRACT_VERSION,
        "labels": labels,
        "input": {**INPUT, "shape": [BATCH_DIMENSION, height, width, channels]},
        "outputs": {name: {**each, "shape": [BATCH_DIMENSION, len(labels)]} for name, each in OUTPUTS.items()},
        "calibration": dict(calibration),
        "resize": dict(RECIPE) | {"height": height, "width": width},
        "precision": precision,
        "flip": flip,
        "model": config.to_json(),
        # Except for its best epoch, the results of an unfinished run are null.
        "training": {name: record.get(name) for name in TRAINING_FACTS}
        | {
            "data": {name: data[name] for name in DATA_FACTS if name in data or name not in LATER_FACTS},
            "validation": record.get("metrics", {}).get("validation"),
        }
        | started,
    }
