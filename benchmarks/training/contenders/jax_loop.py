"""JAX by hand: a jitted step with donated state, images on the device; step by step, or by `lax.scan` over a chunk.

Of the options, ``convolution`` is XLA's own (``stock``), a product of patches in the first layer (``first``) or in all
(``patches``); ``pooling`` is XLA's own or by ``reshape``; ``chunk`` is the number of steps of a scan, 0 for none, and
``unroll`` writes them out instead of looping.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns
from benchmarks.training.course import Course, Epoch, Sums, train_by_hand

State = dict[str, Any]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
FEW_CHANNELS = 16
"""Below it, patches are faster than XLA's own convolution and its gradients on a processor."""


def contend(task: Task, turns: Turns) -> None:
    """Train until there is no further turn."""
    course = Course.of(task)
    train_by_hand(course, JaxTrainer(course, task.options), turns)


class JaxTrainer:
    """Parameters, moments and images, on the device."""

    def __init__(self, course: Course, options: Mapping[str, Any]) -> None:
        self._course, self._model, self._options = course, course.model, options
        self._decay = course.config["weight_decay"]
        self._data = (jnp.asarray(course.images), jnp.asarray(course.labels))
        self._validation = [
            (jnp.asarray(course.validation_images[part]), jnp.asarray(course.validation_labels[part]))
            for part in course.validation_batches()
        ]
        self._state = self._initial_state(course.config["seed"])
        self._scan = jax.jit(self._scanned, donate_argnums=0)
        self._step = jax.jit(self._stepped, donate_argnums=0)
        self._measure = jax.jit(self._measured)

    def train_epoch(self, epoch: Epoch) -> Sums:
        """Train on every image once."""
        sums, chunk, steps = jnp.zeros(2), self._options.get("chunk", 0), len(epoch.rates)
        scanned = steps // chunk * chunk if chunk else 0
        for at in range(0, scanned, chunk or 1):
            rows = tuple(column[at : at + chunk] for column in epoch)
            self._state, sums = self._scan(self._state, sums, self._data, rows)
        for at in range(scanned, steps):
            row = tuple(column[at] for column in epoch)
            self._state, sums = self._step(self._state, sums, self._data, row)
        return Sums(*np.asarray(sums).tolist())

    def validate(self) -> Sums:
        """Measure on the validation images."""
        found = [self._measure(self._state["parameters"], *batch) for batch in self._validation]
        return Sums(*(sum(float(each) for each in column) for column in zip(*found, strict=True)))

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return copies of the weights."""
        leaves = jax.tree.leaves(self._state["parameters"])
        return {str(index): np.array(leaf) for index, leaf in enumerate(leaves)}

    def _initial_state(self, seed: int) -> State:
        rng, size = np.random.default_rng(seed), self._model["kernel_size"]
        channels, shapes = self._model["image_shape"][-1], []
        for filters in self._model["filters"]:
            shapes.append((size, size, channels, filters))
            channels = filters
        height, width = self._features()
        widths = [height * width * channels, *self._model["dense_units"], self._model["classes"]]
        shapes += itertools.pairwise(widths)
        kernels = [rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32) for shape in shapes]
        parameters = [(jnp.asarray(kernel), jnp.zeros(kernel.shape[-1])) for kernel in kernels]
        return {
            "parameters": parameters,
            "first": jax.tree.map(jnp.zeros_like, parameters),
            "second": jax.tree.map(jnp.zeros_like, parameters),
            "count": jnp.zeros((), jnp.int32),
            "key": jax.random.key(seed, impl="rbg"),  # far cheaper masks on a processor than the default
        }

    def _features(self) -> tuple[int, int]:
        height, width = self._model["image_shape"][:2]
        shrink = 0 if self._model["padding"] == "same" else self._model["kernel_size"] - 1
        for _ in self._model["filters"]:
            height, width = (height - shrink) // 2, (width - shrink) // 2
        return height, width

    def _scanned(self, state: State, sums: Any, data: Any, rows: Any) -> tuple[State, Any]:
        def body(carried: Any, row: Any) -> tuple[Any, None]:
            return self._stepped(*carried, data, row), None

        carried, _ = lax.scan(body, (state, sums), rows, unroll=self._options.get("unroll", False))
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
        wanted = self._options.get("convolution", "stock")
        if wanted == "stock" or (wanted == "first" and images.shape[-1] >= FEW_CHANNELS):
            return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        size, _, _, filters = kernel.shape
        if padding == "SAME":
            images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        height, width = images.shape[1] - size + 1, images.shape[2] - size + 1
        shifts = [images[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
        return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(-1, filters)

    def _pool(self, images: Any) -> Any:
        if self._options.get("pooling") != "reshape":
            return lax.reduce_window(images, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        count, height, width, channels = images.shape
        images = images[:, : height // 2 * 2, : width // 2 * 2]
        return images.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
