"""A hand-written JAX loop: `lax.scan` over a few unrolled steps with donated state, images on the device.

The convolution of few channels is a product of patches, which is faster than XLA's own on a processor, and max-pooling
a maximum over a reshaped array. XLA's convolutions inside a loop that is not unrolled took 14 times as long.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from benchmarks.harness.worker import Rounds, Task
from benchmarks.networks import initial_kernels
from benchmarks.training.workload import Epoch, Sums, Workload, train_in_rounds

State = dict[str, Any]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
FEW_CHANNELS = 16
"""Channels below which a convolution is a product of patches."""
CHUNK = 5
"""Steps that are unrolled into one call."""


def run(task: Task, rounds: Rounds) -> None:
    workload = Workload(task)
    train_in_rounds(workload, JaxTrainer(workload), rounds, task.folder)


class JaxTrainer:
    """Parameters, moments and images, on the device."""

    def __init__(self, workload: Workload) -> None:
        self._model = workload.model
        self._decay = workload.config["weight_decay"]
        self._data = (jnp.asarray(workload.images), jnp.asarray(workload.labels))
        self._validation = [
            (jnp.asarray(workload.validation_images[part]), jnp.asarray(workload.validation_labels[part]))
            for part in workload.validation_batches()
        ]
        self._state = self._initial_state(workload.config["seed"])
        self._train = jax.jit(self._scanned, donate_argnums=0)
        self._measure = jax.jit(self._measured)

    def train_epoch(self, epoch: Epoch) -> Sums:
        sums = jnp.zeros(2)
        for at in range(0, len(epoch.rates), CHUNK):
            rows = tuple(column[at : at + CHUNK] for column in epoch)
            self._state, sums = self._train(self._state, sums, self._data, rows)
        return Sums(*np.asarray(sums).tolist())

    def validate(self) -> Sums:
        found = [self._measure(self._state["parameters"], *batch) for batch in self._validation]
        return Sums(*(sum(float(each) for each in column) for column in zip(*found, strict=True)))

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        leaves = jax.tree.leaves(self._state["parameters"])
        return {str(index): np.array(leaf) for index, leaf in enumerate(leaves)}

    def _initial_state(self, seed: int) -> State:
        kernels = initial_kernels(self._model, seed)
        parameters = [(jnp.asarray(kernel), jnp.zeros(kernel.shape[-1])) for kernel in kernels]
        return {
            "parameters": parameters,
            "first": jax.tree.map(jnp.zeros_like, parameters),
            "second": jax.tree.map(jnp.zeros_like, parameters),
            "count": jnp.zeros((), jnp.int32),
            "key": jax.random.key(seed, impl="rbg"),  # far cheaper masks on a processor than the default
        }

    def _scanned(self, state: State, sums: Any, data: Any, rows: Any) -> tuple[State, Any]:
        def body(carried: Any, row: Any) -> tuple[Any, None]:
            return self._stepped(*carried, data, row), None

        carried, _ = lax.scan(body, (state, sums), rows, unroll=True)
        return carried

    def _stepped(self, state: State, sums: Any, data: Any, row: Any) -> tuple[State, Any]:
        indices, weights, rate = row
        images, labels = data[0][indices], data[1][indices]
        key, used = jax.random.split(state["key"])

        def objective(parameters: Any) -> tuple[Any, Any]:
            losses, hits = self._losses(parameters, images, labels, used)
            loss_sum = jnp.sum(losses * weights)
            return loss_sum / jnp.sum(weights), jnp.stack([loss_sum, jnp.sum(hits * weights)])

        gradients, found = jax.grad(objective, has_aux=True)(state["parameters"])
        return self._updated(state, gradients, rate) | {"key": key}, sums + found

    def _updated(self, state: State, gradients: Any, rate: Any) -> State:
        """Return the state after Adam's step (Kingma and Ba 2015) with decoupled decay of the kernels."""
        count = state["count"] + 1
        first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, state["first"], gradients)
        second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, state["second"], gradients)
        scale = rate * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)

        def moved(parameter: Any, m: Any, v: Any) -> Any:
            kept = parameter * (1 - rate * self._decay) if parameter.ndim > 1 else parameter
            return kept - scale * m / (jnp.sqrt(v) + EPSILON)

        parameters = jax.tree.map(moved, state["parameters"], first, second)
        return {"parameters": parameters, "first": first, "second": second, "count": count}

    def _measured(self, parameters: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        losses, hits = self._losses(parameters, images, labels, None)
        return jnp.sum(losses), jnp.sum(hits)

    def _losses(self, parameters: Any, images: Any, labels: Any, key: Any) -> tuple[Any, Any]:
        logits = self._logits(parameters, images, key)
        losses = jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
        return losses, jnp.argmax(logits, axis=1) == labels

    def _logits(self, parameters: Any, images: Any, key: Any) -> Any:
        features = images.astype(jnp.float32) * (2 / 255) - 1
        blocks = len(self._model["filters"])
        for kernel, bias in parameters[:blocks]:
            features = self._pool(jax.nn.relu(self._convolve(features, kernel) + bias))
        features = features.reshape(len(features), -1)
        for index, (kernel, bias) in enumerate(parameters[blocks:-1]):
            features = self._dropped(jax.nn.relu(features @ kernel + bias), key, index)
        kernel, bias = parameters[-1]
        return features @ kernel + bias

    def _dropped(self, features: Any, key: Any, index: int) -> Any:
        if key is None:
            return features
        kept = 1 - self._model["dropout"]
        mask = jax.random.bernoulli(jax.random.fold_in(key, index), kept, features.shape)
        return jnp.where(mask, features / kept, 0)

    def _convolve(self, images: Any, kernel: Any) -> Any:
        padding = self._model["padding"].upper()
        if images.shape[-1] >= FEW_CHANNELS:
            return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        size, _, _, filters = kernel.shape
        if padding == "SAME":
            images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        height, width = images.shape[1] - size + 1, images.shape[2] - size + 1
        shifts = [images[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
        return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(-1, filters)

    def _pool(self, images: Any) -> Any:
        count, height, width, channels = images.shape
        images = images[:, : height // 2 * 2, : width // 2 * 2]
        return images.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
