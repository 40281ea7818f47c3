"""The adapter for TensorFlow: many steps per call inside one graph, variables updated in place."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cifarnet.environment import usable_cores

from .interface import AdamStep, Forward, Objective, Steps, Sums, paths
from .parts import Part, calling_on, parts_of

CHOSEN = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}
"""Variables by which a person has the numbers of threads as they want them."""


def _share_cores() -> int:
    """Give every operation one thread where that is faster, and return the number of parts of a batch.

    On two cores, two halves of a batch side by side, each operation on one thread, wait less for each other than every
    operation divided between two threads: 12.8 ms per step of the recipe ``seed`` against 14.7.
    """
    threads = tf.config.threading
    chosen = threads.get_intra_op_parallelism_threads() or threads.get_inter_op_parallelism_threads()
    if usable_cores() != 2 or chosen or CHOSEN & set(os.environ) or tf.config.list_physical_devices("GPU"):
        return 1
    try:
        threads.set_intra_op_parallelism_threads(1)
        threads.set_inter_op_parallelism_threads(2)
    except RuntimeError:  # something in this process has used TensorFlow before us
        return 1
    return 2


PARTS = _share_cores()


def conv2d(images: tf.Tensor, kernel: tf.Tensor, padding: str, bias: tf.Tensor | None = None) -> tf.Tensor:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
    features = tf.nn.conv2d(images, kernel, 1, padding.upper())
    return features if bias is None else tf.nn.bias_add(features, bias)


def max_pool2d(images: tf.Tensor) -> tf.Tensor:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""
    return tf.nn.max_pool2d(images, 2, 2, "VALID")


def apply_adam(
    step: AdamStep,
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[tf.Tensor],
) -> None:
    """Take one step of Adam; see ``Adapter``."""
    powers = [tf.pow(beta, tf.cast(step.count, tf.float32)) for beta in (step.beta_1, step.beta_2)]
    for each, first, second, gradient in zip(variables, momentums, velocities, gradients, strict=True):
        variable = each.value
        if variable.shape.rank > 1:
            variable.assign(variable * (1 - step.learning_rate * step.weight_decay))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.value.handle,
            v=second.value.handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=step.learning_rate,
            beta1=step.beta_1,
            beta2=step.beta_2,
            epsilon=step.epsilon,
            grad=gradient,
        )


def devices() -> list[str]:
    """Return the names of the devices that TensorFlow sees."""
    return [device.name for device in tf.config.list_logical_devices()]


def parts(size: int) -> list[Part]:
    """Divide a batch; see ``Adapter``."""
    return parts_of(size, PARTS)


def predictor(network: Any) -> Forward:
    """Return ``network`` as a function; see ``Adapter``."""

    def traced(images: tf.Tensor) -> tf.Tensor:
        divided = parts(images.shape[0])
        return tf.concat([network(images[part.first : part.stop], training=False) for part in divided], axis=0)

    function = tf.function(traced, autograph=False)
    return lambda images: np.array(function(tf.constant(images)))


class TensorFlowEngine:
    """A network and its optimizer, updated in place by traced functions."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._variables = network.trainable_variables
        self._train: dict[int, Any] = {}
        self.logits = predictor(network)

    def train(self, steps: Steps) -> list[Sums]:
        """Take optimizer steps; see ``Engine``."""
        size = steps.images.shape[1]
        if size not in self._train:  # one graph for any number of steps
            signature = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in steps]
            self._train[size] = tf.function(self._traced_train, input_signature=signature, autograph=False)
        return [Sums(*row) for row in self._train[size](*map(tf.constant, steps)).numpy()]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable, by path."""
        return {path: np.array(variable.value) for path, variable in paths(self._network, self._optimizer)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable from what ``state`` returned."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])

    def _traced_train(self, *steps: tf.Tensor) -> tf.Tensor:
        count = tf.shape(steps[0])[0]

        def body(step: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return step + 1, found.write(step, self._traced_step(*(array[step] for array in steps)))

        found = tf.TensorArray(tf.float32, count, element_shape=(len(Sums._fields),))
        _, found = tf.while_loop(lambda step, _: step < count, body, (0, found), parallel_iterations=1)
        return found.stack()

    def _traced_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        gradients, sums, total = [], [], tf.reduce_sum(weights)
        for part in parts(images.shape[0]):
            rows = slice(part.first, part.stop)
            with calling_on(part), tf.GradientTape() as tape:
                found = self._objective(self._network(images[rows], training=True), labels[rows], weights[rows])
                loss = found.loss / total
            gradients.append(tape.gradient(loss, [variable.value for variable in self._variables]))
            sums.append(tf.stack(found))
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply([tf.add_n(each) for each in zip(*gradients, strict=True)], self._variables)
        return tf.add_n(sums)


compile = TensorFlowEngine
