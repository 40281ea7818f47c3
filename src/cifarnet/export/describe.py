"""The contract of a model file: the metadata that an app needs to use it."""

from collections.abc import Sequence

from cifarnet.contract import (
    BATCH_DIMENSION,
    CALIBRATED_NAME,
    CONTRACT_VERSION,
    INPUT,
    OUTPUTS,
    RECIPE,
    Contract,
    parse_contract,
)
from cifarnet.run.record import Calibration, RunRecord
from cifarnet.run.typed_json import members

TRAINING_FACTS = ("recipe", "backend", "seed", "versions", "train", "hold_out", "why_stopped", "epochs", "best_epoch")
"""Keys copied from run.json; none names a time, a path or a machine."""
DATA_FACTS = (
    *("name", "fingerprint", "split_by", "split_seed", "image_size", "train_images", "test_images"),
    *("validation_images", "skipped"),
)
"""Keys copied from its dataset."""


def describe(record: RunRecord, precision: str, calibration: Calibration, views: int = 1) -> Contract:
    """Return the contract of the model trained by the run with ``record``, without the parity check's result.

    ``calibration`` was fitted to the trained model and applies to every precision. ``views`` is how many
    the graph averages: more than 1 with test-time augmentation.
    """
    document, data = record.to_json(), record.data.to_json()
    warm_start, validation = record.warm_start, record.metrics.validation
    started = {} if warm_start is None else {"warm_start": {"weights_sha256": warm_start.weights_sha256}}
    custom = {"custom": document["custom"]} if "custom" in document else {}
    weights = {} if record.weights_sha256 is None else {"weights_sha256": record.weights_sha256}
    # Except for its best epoch, the results of an unfinished run are null.
    training = {name: document.get(name) for name in TRAINING_FACTS} | {
        "data": {name: data[name] for name in DATA_FACTS if name in data},
        "validation": None if validation is None else validation.to_json(),
    }
    return describe_interface(record.model.image_shape, record.data.labels).changed(
        precision=precision,
        flip=views > 1,
        **({"views": views} if views > 2 else {}),
        model=record.model.to_json(),
        calibration=members(calibration),
        training=training | custom | started | weights,
    )


def describe_interface(image_shape: Sequence[int], labels: Sequence[str], *, calibrated: bool = True) -> Contract:
    """Return the contract of a float32 model of which only its input and output are known.

    Raises ``ModelError`` for an image shape or labels that a model file cannot have.
    """
    height, width, channels = image_shape
    outputs = {name: each for name, each in OUTPUTS.items() if calibrated or name != CALIBRATED_NAME}
    document = {
        "version": CONTRACT_VERSION,
        "labels": list(labels),
        "input": {**INPUT, "shape": [BATCH_DIMENSION, height, width, channels]},
        "outputs": {name: {**each, "shape": [BATCH_DIMENSION, len(labels)]} for name, each in outputs.items()},
        "resize": dict(RECIPE) | {"height": height, "width": width},
        "precision": "float32",
        "flip": False,
        "model": {},
    }
    return parse_contract(document, "the model")
