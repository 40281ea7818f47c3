"""Import the weights of a model file into Keras, bit for bit."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from cifarnet import pretrained
from cifarnet.arguments import PATH, takes
from cifarnet.atomic import temporary_folder
from cifarnet.backends import default_settings
from cifarnet.config import ModelConfig
from cifarnet.errors import ModelError
from cifarnet.model.layers import BatchNormalization
from cifarnet.model.network import WHITENING, build_model
from cifarnet.model.weights import get_weights, load_features, save_weights, set_weights
from cifarnet.run.exported import config_in
from cifarnet.run.folder import START_WEIGHTS
from cifarnet.runtime import read_model
from cifarnet.system import images_at_once

BATCH = 100
"""Batch size for measuring the statistics of batch normalization."""
AT_ONCE = 500
"""Images of 32x32 pixels whose features are in memory at a time."""


@takes(path=PATH)
def import_weights(path: str | Path) -> tuple[ModelConfig, dict[str, NDArray[np.float32]]]:
    """Return the network configuration in a model file and its float32 weights by variable path, in Keras' layout.

    ``set_weights(build_model(config), weights)`` restores the trained model on any backend. Batch normalization was
    folded into the convolution before it, so the restored network computes the same function without it; a network
    without batch normalization exports to the same file again, with the same ``views``. Raises ``ModelError`` for a
    file not written by cifarnet or of less than float32 precision, and ``ConfigError`` for a network that cannot be
    built here.
    """
    content, contract = read_model(Path(path))
    if contract.precision != "float32":
        raise ModelError(f"{path} holds {contract.precision} weights; expected float32: import the float32 file")
    if (config := config_in(contract)) is None:
        raise ModelError(
            f"{path} was written by export_model from another network; expected one of build_model: import it with onnx"
        )
    config = replace(config, ghost_batch=0)
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


@default_settings()
def start_weights(path: Path, config: ModelConfig, images: NDArray[np.uint8]) -> bytes:
    """Return the content of the file of Keras weights that a run begins with.

    ``path`` is such a file, or the model that comes with the package, for whose statistics the training ``images``,
    uint8 (n, h, w, 3), are used. Raises ``ModelError`` unless the weights fit the network of ``config``.
    """
    model = build_model(config)
    if path != pretrained.MODEL:
        load_features(model, path)
        return path.read_bytes()
    import_features(model, path, images)
    with temporary_folder() as folder:
        converted = folder / START_WEIGHTS
        save_weights(model, converted)
        return converted.read_bytes()


def import_features(model: keras.Model, path: Path, images: NDArray[np.uint8]) -> None:
    """Set the convolutions of ``model``, and their batch normalization if it has any, from a model file.

    Batch normalization was folded into the convolutions of the file. Its mean is measured on ``images``, uint8 (n, h,
    w, 3), and its variance is left in the kernels, so that the network computes the same function in inference, and
    nearly the same in training, where it normalizes by the statistics of each batch. The last blocks of ``model`` may
    be missing in the file; they keep their weights. Raises ``ModelError`` as ``import_weights`` does, and if the
    convolutions do not match.
    """
    _, imported = import_weights(path)
    dense = {layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)}
    weights = get_weights(model)
    for name, array in imported.items():
        layer = name.partition("/")[0]
        if layer not in dense:
            weights[name if name in weights else f"{layer.replace('conv', 'norm')}/beta"] = array
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, BatchNormalization) and f"{layer.name.replace('norm', 'conv')}/kernel" in imported
    ]
    for norm in norms:
        weights[f"{norm.name}/moving_variance"] -= np.float32(norm.epsilon)
    set_weights(model, weights)
    if norms:
        _measure_means(model, norms, images)


def _measure_means(model: keras.Model, norms: list[BatchNormalization], images: NDArray[np.uint8]) -> None:
    """Set the moving means to those of the layers' inputs, and the offsets so that the function stays the same."""
    inputs_of = keras.Model(model.inputs, [norm.input for norm in norms])
    size = images_at_once(AT_ONCE, images.shape[1:])
    means = {norm.name: np.zeros(norm.beta.shape, np.float32) for norm in norms}
    for start in range(0, len(images), size):
        part = images[start : start + size]
        inputs = inputs_of.predict(part, batch_size=BATCH, verbose=0)
        for norm, features in zip(norms, inputs, strict=True):
            means[norm.name] += features.mean(axis=(0, 1, 2)) * np.float32(len(part) / len(images))
    for norm in norms:
        mean = means[norm.name]
        norm.moving_mean.assign(mean)
        norm.beta.assign(keras.ops.convert_to_numpy(norm.beta) + mean)


def _as_keras(name: str, array: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if name == ("dense_1/kernel" if config.dense_units else "logits/kernel"):  # the first layer after Flatten
        height, width, channels = config.feature_shape
        return np.ascontiguousarray(
            array.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(array.shape)
        )
    return np.array(array)
