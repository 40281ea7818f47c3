"""The adapter for JAX: pure functions of an explicit state, compiled once per batch shape."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .interface import AdamStep, Forward, Objective, Steps, Sums, paths

FEW_CHANNELS = 16
"""From here on XLA's own convolution is the faster one. Measured for value and gradients at batch 30 on an AMD EPYC,
two cores: 3 channels 2.2 ms by patches against 3.9, 32 channels 14 against 9, 64 channels 11 against 9."""


def conv2d(images: jax.Array, kernel: jax.Array, padding: str, bias: jax.Array | None = None) -> jax.Array:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
    if jax.default_backend() != "cpu" or images.shape[-1] >= FEW_CHANNELS:
        dimensions = ("NHWC", "HWIO", "NHWC")
        features = jax.lax.conv_general_dilated(images, kernel, (1, 1), padding.upper(), dimension_numbers=dimensions)
    else:
        features = _conv2d_by_patches(images, kernel, padding)
    return features if bias is None else features + bias


def _conv2d_by_patches(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    # On CPU, XLA differentiates a convolution of few channels slowly and a matrix product fast.
    size, _, channels, filters = kernel.shape
    if padding == "same":
        images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    count, height, width = images.shape[0], images.shape[1] - size + 1, images.shape[2] - size + 1
    shifted = [images[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(count * height * width, size * size * channels)
    return (patches @ kernel.reshape(-1, filters)).reshape(count, height, width, filters)


def max_pool2d(images: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""
    count, height, width, channels = images.shape
    images = images[:, : height // 2 * 2, : width // 2 * 2, :]
    windows = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    top, bottom = (_first_maximum(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return _first_maximum(top, bottom)


def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    # Not jnp.maximum: that shares the gradient of a tie, the other frameworks give it to the first.
    return jnp.where(first >= second, first, second)


def apply_adam(
    step: AdamStep,
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[jax.Array],
) -> None:
    """Take one step of Adam; see ``Adapter``."""
    for variable, first, second, gradient in zip(variables, momentums, velocities, gradients, strict=True):
        m = first.value + (gradient - first.value) * (1 - step.beta_1)
        v = second.value + (jnp.square(gradient) - second.value) * (1 - step.beta_2)
        kept = variable.value * (1 - step.decay) if gradient.ndim > 1 else variable.value
        first.assign(m)
        second.assign(v)
        variable.assign(kept - m * step.scale / (jnp.sqrt(v) + step.epsilon))


def devices() -> list[str]:
    """Return the names of the devices that JAX sees."""
    return [str(device) for device in jax.devices()]


def predictor(network: Any) -> Forward:
    """Return ``network`` as a function; see ``Adapter``."""
    pure = jax.jit(partial(_pure_logits, network))

    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        groups = (network.trainable_variables, network.non_trainable_variables)
        return np.asarray(pure(*([variable.value for variable in group] for group in groups), images))

    return forward


def _pure_logits(network: Any, trainable: Any, fixed: Any, images: Any) -> Any:
    return network.stateless_call(trainable, fixed, images, training=False)[0]


class JaxEngine:
    """A network and its optimizer as one pytree of arrays that each step consumes and returns."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._groups = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)
        self._rate_index = [variable is optimizer.learning_rate for variable in optimizer.variables].index(True)
        self._step = jax.jit(self._pure_step, donate_argnums=0)
        self._logits = jax.jit(partial(_pure_logits, network))
        # Copies, because a step donates its state and Keras still holds the originals.
        self._state = jax.tree.map(lambda variable: jnp.array(variable.value, copy=True), self._groups)

    def train(self, steps: Steps) -> list[Sums]:
        """Take optimizer steps; see ``Engine``."""
        found = []
        for batch in zip(*steps, strict=True):
            self._state, sums = self._step(self._state, *batch)
            found.append(sums)
        return [Sums(*row) for row in jax.device_get(found)]

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes); see ``Engine``."""
        return np.asarray(self._logits(self._state[0], self._state[1], images))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable, by path."""
        self._write_back()
        return {path: np.array(variable.value) for path, variable in paths(self._network, self._optimizer)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable from what ``state`` returned."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])
        self._state = jax.tree.map(lambda variable: jnp.array(variable.value, copy=True), self._groups)

    def _write_back(self) -> None:
        for variables, values in zip(self._groups, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(jnp.array(value, copy=True))

    def _pure_step(self, state: Any, images: Any, labels: Any, weights: Any, rate: Any) -> tuple[Any, jax.Array]:
        trainable, fixed, moments = state
        differentiate = jax.grad(partial(self._pure_loss, fixed=fixed, batch=(images, labels, weights)), has_aux=True)
        gradients, (fixed, sums) = differentiate(trainable)
        moments = [rate if index == self._rate_index else value for index, value in enumerate(moments)]
        trainable, moments = self._optimizer.stateless_apply(moments, gradients, trainable)
        return (list(trainable), list(fixed), list(moments)), sums

    def _pure_loss(self, trainable: Any, fixed: Any, batch: Any) -> tuple[Any, Any]:
        images, labels, weights = batch
        logits, fixed = self._network.stateless_call(trainable, fixed, images, training=True)
        sums = self._objective(logits, labels, weights)
        return sums.loss / jnp.sum(weights), (fixed, jnp.stack(sums))


compile = JaxEngine
