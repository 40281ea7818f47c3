"""Import the weights of a model file into Keras, bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from cifarnet.config import ModelConfig
from cifarnet.errors import ModelError
from cifarnet.model.network import WHITENING
from cifarnet.runtime import read_model


def import_weights(path: str | Path) -> tuple[ModelConfig, dict[str, NDArray[np.float32]]]:
    """Return the network configuration in a model file and its float32 weights by variable path, in Keras' layout.

    ``set_weights(build_model(config), weights)`` restores the trained model on any backend. Batch normalization was
    folded into the convolution before it, so the restored network computes the same function without it; a network
    that had none exports to the same file again, given the same ``flip``. Raises ``ModelError`` for a file not written
    by cifarnet or of less than float32 precision, and ``ConfigError`` for a network that cannot be built here.
    """
    content, contract = read_model(Path(path))
    if contract["precision"] != "float32":
        raise ModelError(f"{path} holds {contract['precision']} weights; expected float32: import the float32 file")
    if not contract["model"]:
        raise ModelError(
            f"{path} was written by export_model from another network; expected one of build_model: import it with onnx"
        )
    config = replace(ModelConfig.from_json(contract["model"]), ghost_batch=0)
    try:
        graph = onnx.load_from_string(content).graph
        arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        learned = {name: array for name, array in arrays.items() if name.endswith(("/kernel", "/bias"))}
        learned.pop(f"{WHITENING}/bias", None)  # always zero
        return config, {name: _as_keras(name, array, config) for name, array in learned.items()}
    except (ValueError, TypeError, DecodeError) as error:
        raise ModelError(
            f"{path} has weights that do not match its contract ({error}); expected a file written by `cifarnet export`"
        ) from error


def _as_keras(name: str, array: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if name == ("dense_1/kernel" if config.dense_units else "logits/kernel"):  # the first layer after Flatten
        height, width, channels = config.feature_shape
        return np.ascontiguousarray(
            array.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(array.shape)
        )
    return np.array(array)
