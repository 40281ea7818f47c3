"""The optimizer that Keras brings, and the learning rate as a pure function of the step."""

import math
from typing import Any

import keras

from cifarnet.config import TrainConfig

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
    warmth = min(progress / config.warmup_epochs, 1.0) if config.warmup_epochs else 1.0
    return config.learning_rate * warmth * _schedule(config, progress)


def _schedule(config: TrainConfig, progress: float) -> float:
    if config.schedule == "constant":
        return 1.0
    done = min(progress / config.schedule_epochs, 1.0)
    return config.floor_fraction + (1 - config.floor_fraction) * (1 + math.cos(math.pi * done)) / 2
