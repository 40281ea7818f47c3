"""Make everything in this folder but the two scripts: ``python export/golden/make.py [FOLDER]``.

The images are drawn from seeds, and the model's weights are random: small, never trained, and as sensitive to a wrong
pixel as a trained one. Its answers are computed here, in float64, by numpy: they are no runtime's own.
"""

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from draw import Drawing, drawings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cifarnet.backends import ensure_backend
from cifarnet.config import ModelConfig
from cifarnet.contract import (
    CALIBRATED_NAME,
    CONTRACT_VERSION,
    INPUT_NAME,
    LOGITS_NAME,
    PROBABILITIES_NAME,
)
from cifarnet.dataset import CIFAR10_LABELS
from cifarnet.preprocessing import read_pixels

Weights = Mapping[str, NDArray[np.float32]]

CONFIG = ModelConfig(
    classes=len(CIFAR10_LABELS),
    pixel_range="signed",
    whitening=0,
    filters=(4, 8, 8),
    convolutions_per_block=1,
    pooling="last",
    ghost_batch=0,
    kernel_size=3,
    padding="same",
    global_pooling="none",
    dense_units=(16,),
    dropout=0.0,
    initializer="glorot_normal",
)
"""Every setting is named: the golden model stays when the recipe moves on. Its weights replace the initial ones."""
LOGIT_SPREAD = 4.0
"""Widens the last layer, so that the probabilities of ten classes differ as those of a trained network do."""
TRAINING: dict[str, Any] = {
    "recipe": "golden",
    "backend": "none",
    "seed": 0,
    "versions": {},
    "train": {},
    "hold_out": {},
    "why_stopped": "never trained",
    "epochs": 0,
    "best_epoch": None,
    "data": {"name": "none", "fingerprint": "", "train_images": 0, "test_images": 0},
    "validation": None,
}
"""Stands for the training in the contract: there was none."""
CALIBRATION: dict[str, Any] = {
    "temperature": 1.7,
    "images": 0,
    "ece_before": 0.0,
    "ece_after": 0.0,
    "loss_before": 0.0,
    "loss_after": 0.0,
    "coverage": [],
    "abstention": {"threshold": 0.27, "coverage": 0.3889, "accuracy": 0.0},
    "target_accuracy": 0.0,
}
"""Stands for what is measured on held-out images, of which there are none: a temperature that no binary number is, and
a threshold that 7 of the 18 golden images reach."""


def main(folder: Path) -> None:
    """Write the images, both forms of the model, the answers and ONNX' own test data below ``folder``."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    weights = _write_model(folder)
    every = list(drawings())
    for drawing in every:
        drawing.save(folder / "images")
    pixels = np.stack([read_pixels(folder / "images" / drawing.file) for drawing in every])
    logits = network(weights, pixels)
    (folder / "golden.json").write_text(_answers(every, pixels, logits))
    _write_test_data(folder / "test_data_set_0", pixels, logits)
    _write_test_data(folder / "test_data_set_1", pixels[:1], logits[:1])


def _write_model(folder: Path) -> Weights:
    ensure_backend()
    from cifarnet.export.describe import describe_interface  # Keras, now that its framework is chosen
    from cifarnet.export.writer import serialize, write_graph
    from cifarnet.model.network import build_model
    from cifarnet.model.weights import get_weights, set_weights

    model = build_model(CONFIG)
    weights = {path: _random(index, array) for index, (path, array) in enumerate(get_weights(model).items())}
    weights["logits/kernel"] *= np.float32(LOGIT_SPREAD)
    set_weights(model, weights)
    contract = describe_interface(CONFIG.image_shape, CIFAR10_LABELS).changed(
        model=CONFIG.to_json(), training=TRAINING, calibration=CALIBRATION
    )
    content = serialize(write_graph(model, temperature=CALIBRATION["temperature"]), contract)
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.json").write_text(contract.text + "\n")
    (folder / "floats.onnx").write_bytes(from_floats(content))
    return weights


def _random(index: int, array: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.Generator(np.random.PCG64([0, index]))
    spread = 0.2 if array.ndim == 1 else np.sqrt(2 / np.prod(array.shape[:-1]))
    drawn: NDArray[np.float32] = (rng.standard_normal(array.shape) * spread).astype(np.float32)
    return drawn


def from_floats(content: bytes) -> bytes:
    """Return the same network with a float32 input, pixels still 0-255, for numbers that no byte can hold."""
    model = onnx.load_from_string(content)
    graph = model.graph
    (cast,) = (node for node in graph.node if node.op_type == "Cast")
    for node in graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
    graph.node.remove(cast)
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:], model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    plain = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    plain_content: bytes = plain.SerializeToString(deterministic=True)
    return plain_content


def network(weights: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return logits float32 (n, classes) of pixels (n, h, w, 3), computed in float64."""
    features = pixels.astype(np.float64) * (2 / 255) - 1
    for block in range(1, len(CONFIG.filters) + 1):
        features = np.maximum(_convolved(features, weights[f"conv_{block}/kernel"]) + weights[f"conv_{block}/bias"], 0)
        n, h, w, c = features.shape
        features = features.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    features = features.reshape(len(features), -1)
    hidden = np.maximum(features @ weights["dense_1/kernel"].astype(np.float64) + weights["dense_1/bias"], 0)
    return (hidden @ weights["logits/kernel"].astype(np.float64) + weights["logits/bias"]).astype(np.float32)


def _convolved(features: NDArray[np.float64], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    h, w = features.shape[1:3]
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, y : y + h, x : x + w] @ kernel[y, x].astype(np.float64) for y in range(3) for x in range(3)]
    return np.sum(taps, axis=0)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return the probabilities float32 (n, classes) at a temperature, computed in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def outputs(logits: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return what the model has to put out, by name, each float32 (n, classes)."""
    calibrated = softmax(logits, CALIBRATION["temperature"])
    return {LOGITS_NAME: logits, PROBABILITIES_NAME: softmax(logits), CALIBRATED_NAME: calibrated}


def _answers(every: Sequence[Drawing], pixels: NDArray[np.uint8], logits: NDArray[np.float32]) -> str:
    heads = outputs(logits)
    images = [
        {
            "file": f"images/{drawing.file}",
            "what": drawing.what,
            "pixels": base64.b64encode(tensor.tobytes()).decode(),
            **{name: _shortest(head[index]) for name, head in heads.items()},
        }
        for index, (drawing, tensor) in enumerate(zip(every, pixels, strict=True))
    ]
    document = {"version": CONTRACT_VERSION, "labels": list(CIFAR10_LABELS), "images": images}
    return json.dumps(document, indent=1) + "\n"


def _shortest(row: NDArray[np.float32]) -> list[float]:
    """Return the numbers with as few digits as tell them apart in float32."""
    return [float(str(value)) for value in row]


def _write_test_data(folder: Path, pixels: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
    """Write input and outputs as ONNX' own test runner reads them."""
    folder.mkdir(exist_ok=True)
    for stem, name, array in [
        ("input_0", INPUT_NAME, pixels),
        *((f"output_{index}", name, array) for index, (name, array) in enumerate(outputs(logits).items())),
    ]:
        (folder / f"{stem}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
