"""Keras' optimizers, Adam by the adapter's operation, and the learning rate as a pure function of the step."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from cifarnet.backends import AdamStep, adapter
from cifarnet.config import TrainConfig


class Adam(keras.optimizers.Adam):  # type: ignore[misc]  # Keras ships no types
    """``keras.optimizers.Adam`` with decoupled weight decay, by the framework's own operation where it has one.

    The same steps but for rounding; decay spares biases. Nothing else that Keras' class can do is offered.
    """

    def __init__(self, learning_rate: float, *, weight_decay: float | None, name: str) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, name=name)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step on the variables that the optimizer was built for, in the order of ``build``."""
        variables = trainable_variables or self._trainable_variables
        self.iterations.assign_add(1)
        rate, count = self.learning_rate.value, self.iterations.value
        step = AdamStep(rate, count, self.weight_decay or 0.0, self.beta_1, self.beta_2, self.epsilon)
        adapter().apply_adam(step, variables, self._momentums, self._velocities, grads)


OPTIMIZERS = {
    "adam": Adam,
    "adamw": Adam,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
"""Classes by the names that ``TrainConfig.optimizer`` admits."""

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
