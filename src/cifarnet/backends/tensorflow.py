"""The adapter for TensorFlow: several steps per call in one graph, with variables updated in place."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cifarnet.system import multiplies_bfloat16, threads_of_environment, usable_cores

from .defaults import default_settings
from .microbatches import MicroBatch, calling_on, current_precision, divided, merge_updates
from .protocol import DEFAULT_PLAN, AdamStep, Engine, Forward, Objective, Plan, Steps, Sums

THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def prepare_process() -> None:
    """Run each operation on one thread if that is faster; ``micro_batches`` then divides a batch.

    On two cores, two micro-batches in parallel, each on one thread, wait less for each other than operations that use
    two threads: 12.8 ms per step of the recipe ``seed`` instead of 14.7.
    """
    threads = tf.config.threading
    chosen = threads.get_intra_op_parallelism_threads() or threads.get_inter_op_parallelism_threads()
    if (
        usable_cores() != 2
        or chosen
        or set(THREAD_VARIABLES) & set(os.environ)
        or tf.config.list_physical_devices("GPU")
    ):
        return
    with suppress(RuntimeError):  # TensorFlow was already used in this process
        threads.set_intra_op_parallelism_threads(1)
        threads.set_inter_op_parallelism_threads(2)


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Run functions as graphs, and multiply float32 in full."""
    before = tf.config.functions_run_eagerly(), tf.config.experimental.tensor_float_32_execution_enabled()
    _configure(eagerly=False, tensor_float_32=False)
    try:
        yield
    finally:
        _configure(*before)


def _configure(eagerly: bool, tensor_float_32: bool) -> None:  # noqa: FBT001
    tf.config.run_functions_eagerly(eagerly)
    tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)


def parallel_operations() -> int:
    """Return how many single-threaded operations run in parallel; 1 if operations use several threads."""
    threads = tf.config.threading
    return max(1, threads.get_inter_op_parallelism_threads()) if threads.get_intra_op_parallelism_threads() == 1 else 1


CAN_MULTIPLY_BFLOAT16 = multiplies_bfloat16() or bool(tf.config.list_physical_devices("GPU"))
"""Whether bfloat16 convolutions are fast here; on other CPUs they are much slower than float32."""


def conv2d(images: tf.Tensor, kernel: tf.Tensor, padding: str, bias: tf.Tensor | None = None) -> tf.Tensor:
    features = tf.cast(_rounded(tf.nn.conv2d(_rounded(images), _rounded(kernel), 1, padding.upper())), tf.float32)
    return features if bias is None else tf.nn.bias_add(features, bias)


def _rounded(tensor: tf.Tensor) -> tf.Tensor:
    """Round ``tensor`` and its gradient to the current precision."""
    if current_precision() == "float32":
        return tensor
    rounded = tf.cast(tensor, tf.bfloat16)
    return rounded if CAN_MULTIPLY_BFLOAT16 else tf.cast(rounded, tf.float32)


def max_pool2d(images: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(images, 2, 2, "VALID")


def batch_norm(images: tf.Tensor, offset: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # The raw operation, because the public function replaces a small epsilon.
    none = tf.zeros((0,), tf.float32)
    features, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images, scale=tf.ones_like(offset), offset=offset, mean=none, variance=none, epsilon=epsilon
    )
    count = tf.cast(tf.size(images) // tf.size(offset), tf.float32)
    return features, mean, variance * (count - 1) / count  # TensorFlow returns the unbiased variance


def apply_adam(step: AdamStep, rows: Sequence[tuple[Any, Any, Any, tf.Tensor]]) -> None:
    powers = [tf.pow(beta, tf.cast(step.count, tf.float32)) for beta in (step.beta_1, step.beta_2)]
    for each, first, second, gradient in rows:
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
    return [device.name for device in tf.config.list_logical_devices()]


def threads() -> int | None:
    """Return the number of threads of one operation. TensorFlow reports 0 unless it was set."""
    chosen: int = tf.config.threading.get_intra_op_parallelism_threads()
    return chosen or threads_of_environment(THREAD_VARIABLES[:1])


def micro_batches(size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
    if not (parts or ghost_batch):
        parts = parallel_operations()
    return divided(size, parts, ghost_batch)


def predictor(network: Any) -> Forward:
    def traced(images: tf.Tensor) -> tf.Tensor:
        ranges = [slice(*micro_batch) for micro_batch in micro_batches(images.shape[0])]
        return tf.concat([network(images[rows], training=False) for rows in ranges], axis=0)

    @cache
    def concrete(shape: tuple[int, ...]) -> Any:  # for the reason in TensorFlowEngine.train
        return tf.function(traced, autograph=False).get_concrete_function(tf.TensorSpec(shape, tf.uint8))

    @default_settings()  # Keras reads them while the function is traced
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(concrete(images.shape)(tf.constant(images)))

    return forward


class TensorFlowEngine(Engine):
    """A network and its optimizer, updated in place by traced functions."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective, plan: Plan = DEFAULT_PLAN) -> None:
        super().__init__(network, optimizer, objective, plan)
        self._variables = network.trainable_variables
        self._train: dict[int, Any] = {}
        self.logits = predictor(network)

    @default_settings()  # Keras reads them while the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        size = steps.images.shape[1]
        if size not in self._train:  # one graph for any number of steps
            signature = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in steps]
            function = tf.function(self._traced_train, input_signature=signature, autograph=False)
            # A call of the function itself counts as retracing if other models were traced shortly before.
            self._train[size] = function.get_concrete_function()
        return [Sums(*row) for row in self._train[size](*map(tf.constant, steps)).numpy()]

    def _traced_train(self, *steps: tf.Tensor) -> tf.Tensor:
        count = tf.shape(steps[0])[0]

        def body(step: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return step + 1, rows.write(step, self._traced_step(*(array[step] for array in steps)))

        rows = tf.TensorArray(tf.float32, count, element_shape=(len(Sums._fields),))
        _, rows = tf.while_loop(lambda step, _: step < count, body, (0, rows), parallel_iterations=1)
        return rows.stack()

    def _traced_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        results: list[Any] = []
        total, parallel = tf.reduce_sum(weights), parallel_operations()
        for micro_batch in micro_batches(images.shape[0], self._plan.ghost_batch, self._plan.parts):
            batch = [array[micro_batch.first : micro_batch.stop] for array in (images, labels, weights)]
            # One micro-batch per core at a time: the next ones start when these are done, so memory stays in the cache.
            with tf.control_dependencies([sums for *_, sums in results[: len(results) // parallel * parallel]]):
                batch = [tf.identity(array) for array in batch]
            results.append(self._differentiated(micro_batch, total, *batch))
        gradients, changed, sums = zip(*results, strict=True)
        if not self._plan.own_rate:
            self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply([tf.add_n(each) for each in zip(*gradients, strict=True)], self._variables)
        for variable, *after in zip(self._network.non_trainable_variables, *changed, strict=True):
            variable.assign(merge_updates(variable.value, after))
        return tf.add_n(sums)

    def _differentiated(
        self, micro_batch: MicroBatch, total: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
        """Return the gradients of ``micro_batch``, the updated other variables, and its sums."""
        trainable = [tf.identity(variable.value) for variable in self._variables]
        fixed = [variable.value for variable in self._network.non_trainable_variables]
        with calling_on(micro_batch, self._plan.precision), tf.GradientTape() as tape:
            tape.watch(trainable)
            logits, changed = self._network.stateless_call(trainable, fixed, images, training=True)
            sums = self._objective(logits, labels, weights)
            loss = sums.loss / total
        gradients = tape.gradient(loss, trainable)
        with tf.control_dependencies(gradients):
            return gradients, changed, tf.stack(sums)


compile = TensorFlowEngine
