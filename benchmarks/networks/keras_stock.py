"""The network from stock Keras layers."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import beyond_stock


def stock_network(model: Mapping[str, Any], *, softmax: bool) -> keras.Model:
    """Build it from the fields of ``cifarnet.ModelConfig``; ``softmax`` puts probabilities at its end, not logits."""
    assert not beyond_stock(model)
    layers = [keras.Input(tuple(model["image_shape"]), dtype="uint8"), keras.layers.Rescaling(2 / 255, -1.0)]
    shared = {"activation": "relu", "kernel_initializer": model["initializer"]}
    for filters in model["filters"]:
        layers.append(keras.layers.Conv2D(filters, model["kernel_size"], padding=model["padding"], **shared))
        layers.append(keras.layers.MaxPooling2D(2))
    layers.append(keras.layers.Flatten())
    for units in model["dense_units"]:
        layers.append(keras.layers.Dense(units, **shared))
        layers.append(keras.layers.Dropout(model["dropout"]))
    layers.append(keras.layers.Dense(model["classes"], kernel_initializer=model["initializer"]))
    return keras.Sequential([*layers, keras.layers.Softmax()] if softmax else layers)


def set_weights(network: keras.Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put trained weights in, given in the order of the layers."""
    network.set_weights(list(weights.values()))
