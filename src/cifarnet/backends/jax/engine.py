"""The engine for JAX: pure functions of an explicit state, compiled once per batch shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cifarnet.backends.defaults import default_settings
from cifarnet.backends.microbatches import MicroBatch, calling_on, divided, merge_updates
from cifarnet.backends.protocol import DEFAULT_PLAN, Engine, Forward, Objective, Plan, Steps, Sums
from cifarnet.system import usable_cores

from .process import require_right_sums

IMAGES_PER_CORE = 16
"""Images of a micro-batch per CPU core, so that its activations stay in the cache.

On two cores, images per second with and without micro-batches: 1,767 and 1,012 at batch size 128, 1,769 and 591 at 512.
"""


def micro_batches(size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
    """Divide a batch into micro-batches of at most two different sizes, so at most two functions are compiled."""
    most = IMAGES_PER_CORE * (usable_cores() or 1) if jax.default_backend() == "cpu" else size
    return divided(size, parts, ghost_batch or most)


def predictor(network: Any) -> Forward:
    pure = _logits_of(network)

    @default_settings()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        trainable = [variable.value for variable in network.trainable_variables]
        return pure(trainable, [variable.value for variable in network.non_trainable_variables], images)

    return forward


def _logits_of(network: Any) -> Callable[[Any, Any, NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from trainable variables, other variables and images (n, h, w, c) to logits (n, classes)."""
    require_right_sums()
    pure = jax.jit(lambda *arguments: network.stateless_call(*arguments, training=False)[0])

    def forward(trainable: Any, fixed: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        ranges = [slice(*micro_batch) for micro_batch in micro_batches(len(images))]
        return np.concatenate(jax.device_get([pure(trainable, fixed, images[rows]) for rows in ranges]))

    return forward


class JaxEngine(Engine):
    """A network and its optimizer as one pytree of arrays, which each step consumes and returns."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective, plan: Plan = DEFAULT_PLAN) -> None:
        super().__init__(network, optimizer, objective, plan)
        self._groups = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)
        rate = None if plan.own_rate else optimizer.learning_rate
        self._is_rate = [variable is rate for variable in optimizer.variables]
        self._step = jax.jit(self._pure_step, donate_argnums=0)
        self._add = jax.jit(self._pure_addition, donate_argnums=0)
        self._apply = jax.jit(self._pure_application, donate_argnums=0)
        self._sum = jax.jit(_sum, donate_argnums=0)
        self._logits = _logits_of(network)
        self._state = self._copied()

    @default_settings()  # Keras reads them while the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        sums = [self._take_step(*batch) for batch in zip(*steps, strict=True)]
        return [Sums(*row) for row in jax.device_get(sums)]

    @default_settings()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._logits(self._state[0], self._state[1], images)

    def state(self) -> dict[str, NDArray[Any]]:
        for variables, values in zip(self._groups, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(jnp.array(value, copy=True))
        return super().state()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().restore(state)
        self._state = self._copied()

    def _copied(self) -> Any:
        # Copied, because a step donates its state and Keras still uses the originals.
        return jax.tree.map(lambda variable: jnp.array(variable.value, copy=True), self._groups)

    def _take_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int32], weights: NDArray[np.float32], rate: np.float32
    ) -> jax.Array:
        ranges = micro_batches(len(images), self._plan.ghost_batch, self._plan.parts)
        if len(ranges) == 1:
            self._state, sums = self._step(self._state, (images, labels, weights), rate)
            return sums
        accumulate = self._accumulated if self._plan.workers.count == 1 else self._gathered
        (gradients, sums), updates = accumulate((images, labels, weights), ranges)
        self._state = self._apply(self._state, gradients, rate, updates)
        return sums

    def _accumulated(self, batch: Any, ranges: Sequence[MicroBatch]) -> tuple[Any, list[Any]]:
        """Return the added gradients and sums of a batch, and the other variables after each micro-batch."""
        added, updates = self._zeros(), []
        for micro_batch in ranges:
            added, changed = self._plus(added, batch, micro_batch)
            updates.append(changed)
        return added, updates

    def _gathered(self, batch: Any, ranges: Sequence[MicroBatch]) -> tuple[Any, list[Any]]:
        """Return the same, of the micro-batches of all workers, added in the same order."""
        workers = self._plan.workers
        own = [self._plus(self._zeros(), batch, ranges[index]) for index in workers.own(len(ranges))]
        structure = jax.tree.structure(own[0])
        rows = workers.in_order([[*map(np.asarray, jax.tree.leaves(each))] for each in own], len(ranges))
        added, updates = self._zeros(), []
        for row in rows:
            new, changed = jax.tree.unflatten(structure, row)
            added = self._sum(added, new)
            updates.append(changed)
        return added, updates

    def _zeros(self) -> tuple[Any, jax.Array]:
        return jax.tree.map(jnp.zeros_like, self._state[0]), jnp.zeros(len(Sums._fields))

    def _plus(self, added: Any, batch: Any, micro_batch: MicroBatch) -> tuple[Any, Any]:
        trainable, fixed, _ = self._state
        rows = slice(*micro_batch)
        total = batch[-1].sum()
        return self._add(added, trainable, fixed, tuple(array[rows] for array in batch), total, micro_batch.first)

    def _pure_step(self, state: Any, batch: Any, rate: Any) -> tuple[Any, jax.Array]:
        trainable, fixed, _ = state
        (gradients, sums), changed = self._differentiated(trainable, fixed, batch, jnp.sum(batch[-1]), 0)
        return self._pure_application(state, gradients, rate, [changed]), sums

    def _pure_addition(self, added: Any, *arguments: Any) -> tuple[Any, Any]:
        new, changed = self._differentiated(*arguments)
        return _sum(added, new), changed

    def _pure_application(self, state: Any, gradients: Any, rate: Any, updates: list[Any]) -> Any:
        trainable, fixed, moments = state
        moments = [rate if is_rate else value for is_rate, value in zip(self._is_rate, moments, strict=True)]
        trainable, moments = self._optimizer.stateless_apply(moments, gradients, trainable)
        fixed = [merge_updates(before, after) for before, *after in zip(fixed, *updates, strict=True)]
        return list(trainable), fixed, list(moments)

    def _differentiated(self, trainable: Any, fixed: Any, batch: Any, total: Any, first: Any) -> tuple[Any, Any]:
        """Return the gradients and sums of the images from position ``first`` on, and the updated other variables."""

        def loss(trainable: Any) -> tuple[Any, Any]:
            images, labels, weights = batch
            logits, changed = self._network.stateless_call(trainable, fixed, images, training=True)
            sums = self._objective(logits, labels, weights)
            return sums.loss / total, (jnp.stack(sums), list(changed))

        with calling_on(MicroBatch(first, first + len(batch[0])), self._plan.precision):
            gradients, (sums, changed) = jax.grad(loss, has_aux=True)(trainable)
        return (gradients, sums), changed


def _sum(added: Any, new: Any) -> Any:
    return jax.tree.map(jnp.add, added, new)


compile = JaxEngine
