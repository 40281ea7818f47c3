"""The optimizer that Keras brings, and the learning rate as a pure function of the step."""

import math
from typing import Any

import keras

from ..config import TrainConfig

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
"""Keras classes by the names that ``TrainConfig.optimizer`` admits."""

SGD_MOMENTUM = 0.9
"""Nesterov momentum (Sutskever et al. 2013): SGD without it needs several times the epochs."""


def build_optimizer(config: TrainConfig, network: Any) -> keras.optimizers.Optimizer:
    """Return the optimizer with its variables built for ``network``; weight decay spares the biases."""
    momentum = {"momentum": SGD_MOMENTUM, "nesterov": True} if config.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, name="optimizer", **momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(network.trainable_variables)
    return optimizer


def learning_rate_at(config: TrainConfig, progress: float) -> float:
    """Return the learning rate after ``progress`` epochs, a fraction within an epoch included."""
    if config.schedule == "constant":
        return config.learning_rate
    done = min(progress / config.schedule_epochs, 1.0)
    floor = config.floor_fraction
    return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
