"""The adapter for JAX: pure functions of an explicit state, compiled once per batch shape."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

try:
    from jax import enable_x64
except ImportError:  # older than 0.8
    from jax.experimental import enable_x64

from cifarnet.config import Precision
from cifarnet.errors import BackendError
from cifarnet.system import FAULTY_JAXLIB, YNNPACK_FLAG, threads_of_environment, usable_cores, versions

from .defaults import default_settings
from .microbatches import (
    MicroBatch,
    calling_on,
    current_precision,
    divided,
    ghost_batches,
    merge_updates,
)
from .protocol import AdamStep, Forward, Objective, Steps, Sums, paths
from .workers import ALONE, LOOPBACK, Workers, joining, lost_worker, within

THREAD_VARIABLES = ("PJRT_NPROC", "NPROC")  # see ``Adapter``
PATCH_BYTES = 12 * 2**20
"""Maximum size of the patches, in bytes, up to which a CPU convolution is a matrix product; XLA's is faster beyond it.

Milliseconds for value and gradients of 30 images, matrix product against XLA, AMD EPYC, two cores: 3.5 against 6.4 at
3 MB (32x32, 3 to 64 channels), 5.3 against 6.9 at 4 MB (8x8, 64 to 128), 7.4 against 8.4 at 9 MB (16x16, 32 to 64), but
9.0 against 6.0 at 18 MB (32x32, 16 to 16) and 94 against 36 at 35 MB (16x16, 128 to 128).
"""
IMAGES_PER_CONVOLUTION = 16
"""Images per call of XLA's CPU convolution; with more it no longer fits in the cache.

Milliseconds for value and gradients of 256 images, in calls of this size against one call, AMD EPYC, two cores: 80
against 307 (15x15, 48 to 128 channels), 195 against 736 (15x15, 64 to 256); without the gradient of the images, 78
against 342 (31x31, 24 to 48).
"""
IMAGES_PER_CORE = 16
"""Images of a micro-batch per CPU core, so that its activations stay in the cache.

On two cores, images per second with and without micro-batches: 1,767 and 1,012 at batch size 128, 1,769 and 591 at 512.
"""


HEARTBEAT_S = 20
"""Seconds without a heartbeat after which JAX treats a worker as failed and aborts the others."""


def sums_are_right() -> bool:
    """Return whether XLA sums more than 32,768 rows of products correctly, which a faulty jaxlib does not."""
    rows = np.random.default_rng(0).standard_normal((2**15 + 1, 3), np.float32)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(np.eye(3, dtype=np.float32) @ row))))(rows)
    return bool(np.allclose(sums, np.square(rows).sum(axis=1), rtol=1e-3))


@functools.cache
def _require_right_sums() -> None:
    # Not on import, because JAX cannot be configured (for several processes, for example) after its first use.
    jaxlib = versions(("jaxlib",)).get("jaxlib")
    if jaxlib in FAULTY_JAXLIB and not sums_are_right():
        raise BackendError(
            f"jaxlib {jaxlib} computes wrong sums in this process, where XLA_FLAGS is "
            f"{os.environ.get('XLA_FLAGS', '')!r}; expected JAX to start with {YNNPACK_FLAG}=-reduce: set that before "
            "JAX is first used, or install another jaxlib"
        )


def prepare_process() -> None:
    """Do nothing: XLA manages cores and memory itself."""


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Compile functions, with float32 and products of the default precision; see ``Adapter``."""
    with jax.disable_jit(False), enable_x64(False), jax.default_matmul_precision(None):  # noqa: FBT003
        yield


def conv2d(images: jax.Array, kernel: jax.Array, padding: str, bias: jax.Array | None = None) -> jax.Array:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
    images, kernel = _rounded(images), _rounded(kernel)
    is_symbol = not isinstance(images.shape[0], int)  # Keras infers shapes with a symbolic number of images
    if is_symbol or jax.default_backend() != "cpu":
        features = _conv2d(images, kernel, padding)
    elif 4 * math.prod(images.shape) * math.prod(kernel.shape[:2]) <= PATCH_BYTES:
        features = _conv2d_as_matrix_product(images, kernel, padding)
    else:
        features = _conv2d_in_calls(images, kernel, padding)
    features = _rounded(features)
    return features if bias is None else features + bias


def _rounded(values: jax.Array) -> jax.Array:
    """Round ``values`` and their gradient to the current precision. They stay float32.

    XLA's CPU convolutions are not faster in bfloat16.
    """
    if current_precision() == "float32":
        return values
    bfloat16 = jnp.finfo(jnp.bfloat16)
    return jax.lax.reduce_precision(values, bfloat16.nexp, bfloat16.nmant)


def _conv2d(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding.upper(), dimension_numbers=dimensions)


def _conv2d_in_calls(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    calls = divided(images.shape[0], math.ceil(images.shape[0] / IMAGES_PER_CONVOLUTION))
    return jnp.concatenate([_conv2d(images[slice(*rows)], kernel, padding) for rows in calls])


def _conv2d_as_matrix_product(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    size, _, channels, filters = kernel.shape
    if padding == "same":
        images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    count, height, width = images.shape[0], images.shape[1] - size + 1, images.shape[2] - size + 1
    shifted = [images[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(count * height * width, size * size * channels)
    return (patches @ kernel.reshape(-1, filters)).reshape(count, height, width, filters)


def max_pool2d(images: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is dropped."""
    count, height, width, channels = images.shape
    images = images[:, : height // 2 * 2, : width // 2 * 2, :]
    windows = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    top, bottom = (_first_maximum(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return _first_maximum(top, bottom)


def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    # Not jnp.maximum, which divides the gradient of a tie; the other frameworks give it to the first value.
    return jnp.where(first >= second, first, second)


def batch_norm(images: jax.Array, offset: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalize (n, h, w, c) over all but the last axis; see ``Adapter``."""
    mean = jnp.mean(images, (0, 1, 2))
    variance = jnp.mean(jnp.square(images - mean), (0, 1, 2))
    return (images - mean) * jax.lax.rsqrt(variance + epsilon) + offset, mean, variance


def apply_adam(
    step: AdamStep,
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[jax.Array],
) -> None:
    """Take one step of Adam; see ``Adapter``."""
    count = step.count.astype(jnp.float32)
    scale = step.learning_rate * jnp.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    decay = 1 - step.learning_rate * step.weight_decay
    for variable, first, second, gradient in zip(variables, momentums, velocities, gradients, strict=True):
        m = first.value + (gradient - first.value) * (1 - step.beta_1)
        v = second.value + (jnp.square(gradient) - second.value) * (1 - step.beta_2)
        first.assign(m)
        second.assign(v)
        value = variable.value * decay if gradient.ndim > 1 else variable.value
        variable.assign(value - m * scale / (jnp.sqrt(v) + step.epsilon))


def devices() -> list[str]:
    """Return the names of the devices available to JAX."""
    return [str(device) for device in jax.devices()]


def threads() -> int | None:
    """Return the size of XLA's thread pool; see ``Adapter``. XLA reads it from the environment on its first use."""
    return threads_of_environment(THREAD_VARIABLES)


def micro_batches(size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
    """Divide a batch into micro-batches of at most two different sizes, so at most two functions are compiled."""
    if parts:
        return divided(size, parts)
    if ghost_batch:
        return ghost_batches(size, ghost_batch)
    most = IMAGES_PER_CORE * (usable_cores() or 1) if jax.default_backend() == "cpu" else size
    return divided(size, math.ceil(size / most))


def join(timeout_s: float) -> Workers:
    """Join the other workers by ``jax.distributed``; see ``Adapter``."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if address.rpartition(":")[0] in LOOPBACK:
        os.environ.setdefault("JAX_COORDINATOR_BIND_ADDRESS", address)
    with joining(RuntimeError, ValueError):
        count, rank = (
            int(os.environ[name]) if name in os.environ else None for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        if not jax.distributed.is_initialized():
            jax.distributed.initialize(None, count, rank, heartbeat_timeout_seconds=HEARTBEAT_S)
        first_devices = {device.process_index: device for device in reversed(jax.devices())}
    count = jax.process_count()
    mesh = jax.sharding.Mesh(np.array([first_devices[rank] for rank in range(count)]), ("workers",))
    divided_rows, copied = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("workers",), ())
    )
    copy = jax.jit(lambda array: array, out_shardings=copied)

    def gathered(array: NDArray[Any]) -> NDArray[Any]:
        own = jax.device_put(array[None], first_devices[jax.process_index()])
        rows = jax.make_array_from_single_device_arrays((count, *array.shape), divided_rows, [own])
        return np.asarray(copy(rows).addressable_data(0))

    def all_gather(array: NDArray[Any]) -> NDArray[Any]:
        with lost_worker(RuntimeError, ValueError, TimeoutError):
            return np.asarray(within(timeout_s, gathered, array))

    with _silent_stdout():
        all_gather(np.zeros(1, np.float32))
    return Workers(jax.process_index(), count, all_gather)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Discard the lines that gloo prints when it connects, among which nobody would find our JSON."""
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def predictor(network: Any) -> Forward:
    """Return ``network`` as a function; see ``Adapter``."""
    pure = _logits_of(network)

    @default_settings()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        trainable = [variable.value for variable in network.trainable_variables]
        return pure(trainable, [variable.value for variable in network.non_trainable_variables], images)

    return forward


def _logits_of(network: Any) -> Callable[[Any, Any, NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from trainable variables, other variables and images (n, h, w, c) to logits (n, classes)."""
    _require_right_sums()
    pure = jax.jit(lambda *arguments: network.stateless_call(*arguments, training=False)[0])

    def forward(trainable: Any, fixed: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        ranges = [slice(*micro_batch) for micro_batch in micro_batches(len(images))]
        return np.concatenate(jax.device_get([pure(trainable, fixed, images[rows]) for rows in ranges]))

    return forward


class JaxEngine:
    """A network and its optimizer as one pytree of arrays, which each step consumes and returns."""

    def __init__(
        self,
        network: Any,
        optimizer: Any,
        objective: Objective,
        ghost_batch: int = 0,
        precision: Precision = "float32",
        parts: int | None = None,
        workers: Workers = ALONE,
        *,
        own_rate: bool = False,
    ) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._ghost_batch, self._precision = ghost_batch, precision
        self._parts, self._workers = parts, workers
        self._groups = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)
        rate = None if own_rate else optimizer.learning_rate
        self._is_rate = [variable is rate for variable in optimizer.variables]
        self._step = jax.jit(self._pure_step, donate_argnums=0)
        self._add = jax.jit(self._pure_addition, donate_argnums=0)
        self._apply = jax.jit(self._pure_application, donate_argnums=0)
        self._sum = jax.jit(_sum, donate_argnums=0)
        self._logits = _logits_of(network)
        # Copied, because a step donates its state and Keras still uses the originals.
        self._state = jax.tree.map(lambda variable: jnp.array(variable.value, copy=True), self._groups)

    @default_settings()  # Keras reads them while the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        """Take optimizer steps; see ``Engine``."""
        sums = [self._take_step(*batch) for batch in zip(*steps, strict=True)]
        return [Sums(*row) for row in jax.device_get(sums)]

    @default_settings()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes); see ``Engine``."""
        return self._logits(self._state[0], self._state[1], images)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of all variables, by path."""
        self._write_back()
        return {path: np.array(variable.value) for path, variable in paths(self._network, self._optimizer)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set all variables from the result of ``state``."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])
        self._state = jax.tree.map(lambda variable: jnp.array(variable.value, copy=True), self._groups)

    def _write_back(self) -> None:
        for variables, values in zip(self._groups, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(jnp.array(value, copy=True))

    def _take_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int32], weights: NDArray[np.float32], rate: np.float32
    ) -> jax.Array:
        ranges = micro_batches(len(images), self._ghost_batch, self._parts)
        if len(ranges) == 1:
            self._state, sums = self._step(self._state, (images, labels, weights), rate)
            return sums
        accumulate = self._accumulated if self._workers.count == 1 else self._gathered
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
        own = [self._plus(self._zeros(), batch, ranges[index]) for index in self._workers.own(len(ranges))]
        structure = jax.tree.structure(own[0])
        rows = self._workers.in_order([[*map(np.asarray, jax.tree.leaves(each))] for each in own], len(ranges))
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
        return self._add(added, trainable, fixed, tuple(array[rows] for array in batch), total, micro_batch.first)  # type: ignore[no-any-return]

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

        with calling_on(MicroBatch(first, first + len(batch[0])), self._precision):
            gradients, (sums, changed) = jax.grad(loss, has_aux=True)(trainable)
        return (gradients, sums), changed


def _sum(added: Any, new: Any) -> Any:
    return jax.tree.map(jnp.add, added, new)


compile = JaxEngine
