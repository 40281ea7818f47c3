"""The adapter for TensorFlow: one graph per batch shape, variables updated in place."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .interface import Objective, StepResult, paths


def conv2d(images: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1; padding ``same`` or ``valid``."""
    return tf.nn.conv2d(images, kernel, 1, padding.upper())


def max_pool2d(images: tf.Tensor) -> tf.Tensor:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""
    return tf.nn.max_pool2d(images, 2, 2, "VALID")


def devices() -> list[str]:
    """Return the names of the devices that TensorFlow sees."""
    return [device.name for device in tf.config.list_logical_devices()]


class TensorFlowEngine:
    """A network and its optimizer, updated in place by traced functions."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._trainable = network.trainable_variables
        self._train_step = tf.function(self._traced_train_step)
        self._logits = tf.function(self._traced_logits)

    def train_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int32], weights: NDArray[np.float32], learning_rate: float
    ) -> StepResult:
        """Take one optimizer step; see ``Engine``."""
        rate = tf.constant(learning_rate, tf.float32)
        sums = self._train_step(tf.constant(images), tf.constant(labels), tf.constant(weights), rate)
        return StepResult(*sums)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes); see ``Engine``."""
        return np.array(self._logits(tf.constant(images)))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable, by path."""
        return {path: np.array(variable.value) for path, variable in paths(self._network, self._optimizer)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable from what ``state`` returned."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])

    def _traced_train_step(self, images: Any, labels: Any, weights: Any, rate: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            logits = self._network(images, training=True)
            loss, sums = self._objective(logits, labels, weights)
        gradients = tape.gradient(loss, [variable.value for variable in self._trainable])
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply(gradients, self._trainable)
        return tuple(sums)

    def _traced_logits(self, images: Any) -> Any:
        return self._network(images, training=False)


compile = TensorFlowEngine
