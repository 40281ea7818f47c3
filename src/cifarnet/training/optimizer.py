"""Objective, optimizers and learning rate schedule.

They are written in Keras operations, so that all frameworks compute the same.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cifarnet.backends import ALONE, AdamStep, Engine, Plan, Sums, Workers, adapter, default_settings
from cifarnet.config import TrainConfig
from cifarnet.recipes import Recipe

from .custom import NO_CUSTOM, Custom


class Adam(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras ships no types
    """Adam with decoupled weight decay of kernels, by the framework's fused operation if it has one.

    Its steps are those of ``keras.optimizers.Adam``, except for rounding.
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
    """The defaults of ``keras.optimizers.Adam``."""

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moving averages, with the names that ``keras.optimizers.Adam`` uses."""
        if self.built:
            return
        super().build(variables)
        # In a function, because Keras adds the variables of any attribute to those of the optimizer.
        self._stepped: Callable[[], Sequence[Any]] = lambda: variables
        self._averages = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step on the variables that the optimizer was built for, in the order of ``build``."""
        self.iterations.assign_add(1)
        rate, count = self.learning_rate.value, self.iterations.value
        step = AdamStep(rate, count, self.weight_decay or 0.0, self.BETA_1, self.BETA_2, self.EPSILON)
        rows = zip(trainable_variables or self._stepped(), *self._averages, grads, strict=True)
        adapter().apply_adam(step, list(rows))


class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras ships no types
    """Orthogonalized momentum for convolutions (Jordan et al. 2024), and Adam for all other variables.

    A kernel (k, k, c, filters) is reshaped to a matrix with one column per filter. Before each step it is scaled so
    that the mean squared norm of its filters is 1; batch normalization makes the network independent of the scale.
    ``keras.optimizers.Muon`` would use Adam for convolutions.
    """

    MOMENTUM = 0.6
    """Nesterov momentum of convolutions, as published for short training runs of such networks."""
    BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-8
    """Parameters of Adam. The second average is shorter than usual, because a run has only a few hundred steps."""
    ITERATIONS = 3
    """Newton-Schulz iterations, as published for such runs."""
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    """Coefficients of the polynomial that moves singular values towards 1, as published."""
    LEAST_NORM = 1e-7
    """Added to the norm of a matrix before division, as published; the gradient may be 0."""
    ADAM_RATIO = 0.05
    """Adam's learning rate over that of the convolutions: 5e-3 in the recipe ``fast``, where the latter is 0.1.

    Chosen manually; doubling it gave no gain in one six-epoch run.
    """

    def build(self, variables: Any) -> None:
        """Create the moving averages."""
        if self.built:
            return
        super().build(variables)
        self._averages = [
            [self.add_variable_from_reference(variable, name) for name in self._names(variable)]
            for variable in variables
        ]

    @staticmethod
    def _names(variable: Any) -> tuple[str, ...]:
        return ("momentum",) if len(variable.shape) == 4 else ("momentum", "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        averages = self._averages[self._get_variable_index(variable)]
        if len(averages) == 1:
            self._orthogonal_step(gradient, variable, learning_rate, *averages)
        else:
            self._adam_step(gradient, variable, learning_rate * self.ADAM_RATIO, *averages)

    def _orthogonal_step(self, gradient: Any, variable: Any, rate: Any, momentum: Any) -> None:
        momentum.assign(momentum * self.MOMENTUM + gradient)
        matrix = ops.reshape(gradient + momentum * self.MOMENTUM, (-1, variable.shape[-1]))
        step = ops.reshape(self._orthogonal(matrix), variable.shape)
        scale = math.sqrt(variable.shape[-1]) / ops.sqrt(ops.sum(ops.square(variable)))
        variable.assign(variable * scale - step * rate)

    def _orthogonal(self, matrix: Any) -> Any:
        """Return approximately ``U @ V.T`` of the singular value decomposition, by Newton-Schulz iteration."""
        a, b, c = self.COEFFICIENTS
        is_tall = matrix.shape[0] > matrix.shape[1]
        matrix = ops.transpose(matrix) if is_tall else matrix
        matrix = matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + self.LEAST_NORM)
        for _ in range(self.ITERATIONS):
            square = ops.matmul(matrix, ops.transpose(matrix))
            matrix = a * matrix + ops.matmul(b * square + c * ops.matmul(square, square), matrix)
        return ops.transpose(matrix) if is_tall else matrix

    def _adam_step(self, gradient: Any, variable: Any, rate: Any, momentum: Any, velocity: Any) -> None:
        count = ops.cast(self.iterations + 1, "float32")
        momentum.assign(momentum + (gradient - momentum) * (1 - self.BETA_1))
        velocity.assign(velocity + (ops.square(gradient) - velocity) * (1 - self.BETA_2))
        scale = rate * ops.sqrt(1 - self.BETA_2**count) / (1 - self.BETA_1**count)
        variable.assign(variable - momentum * scale / (ops.sqrt(velocity) + self.EPSILON))


OPTIMIZERS = {
    "adam": Adam,
    "adamw": Adam,
    "muon": Muon,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
"""Optimizer classes by their name in ``TrainConfig.optimizer``."""

SGD_MOMENTUM = 0.9
"""Nesterov momentum (Sutskever et al. 2013): SGD without it needs several times as many epochs."""


@default_settings()
def build_optimizer(config: TrainConfig, network: Any) -> keras.optimizers.Optimizer:
    """Return the optimizer with its variables built for ``network``; only kernels have weight decay."""
    momentum = {"momentum": SGD_MOMENTUM, "nesterov": True} if config.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, name="optimizer", **momentum
    )
    optimizer.exclude_from_weight_decay(var_list=[each for each in network.trainable_variables if each.ndim == 1])
    optimizer.build(network.trainable_variables)
    return optimizer


def learning_rate_at(config: TrainConfig, progress: float) -> float:
    """Return the learning rate after ``progress`` epochs, which need not be a whole number."""
    warmth = min(progress / config.warmup_epochs, 1.0) if config.warmup_epochs else 1.0
    return config.learning_rate * warmth * _schedule(config, progress)


def _schedule(config: TrainConfig, progress: float) -> float:
    if config.schedule == "constant":
        return 1.0
    done = min(progress / (config.schedule_epochs or config.epochs), 1.0)
    if config.schedule == "linear":
        return config.floor_fraction + (1 - config.floor_fraction) * (1 - done)
    return config.floor_fraction + (1 - config.floor_fraction) * (1 + math.cos(math.pi * done)) / 2


def class_weights_of(settings: Recipe, labels: NDArray[np.int32]) -> NDArray[np.float32] | None:
    """Return the weight of each class for the labels (n,) of the training images: float32 (classes,), or None."""
    if settings.train.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=settings.model.classes)
    return (len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def objective(
    logits: Any,
    labels: Any,
    weights: Any,
    label_smoothing: float = 0.0,
    custom: Custom = NO_CUSTOM,
    class_weights: NDArray[np.float32] | None = None,
) -> Sums:
    """Return the loss and the number of correct predictions, summed over a batch.

    ``logits`` is float32 (n, classes), ``labels`` int32 (n,), ``weights`` float32 (n,), 0 for padding and 1 otherwise.
    It is Keras' ``sparse_categorical_crossentropy`` of the logits, because the logarithm of a rounded probability
    differs between frameworks, with label smoothing as in Szegedy et al. 2016, section 7. The loss of ``custom``, if it
    has one, replaces both. ``class_weights`` (classes,) multiply the losses of the images of each class.
    """
    if custom.loss is not None:
        losses = custom.losses(labels, ops.softmax(logits, axis=-1))
    else:
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if label_smoothing:
            shared = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
            losses = (1 - label_smoothing) * losses + label_smoothing * shared
    if class_weights is not None:
        losses = losses * ops.take(ops.convert_to_tensor(class_weights), labels, axis=0)
    hits = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")
    return Sums(loss=ops.sum(losses * weights), correct=ops.sum(hits * weights))


def compile_engine(
    network: keras.Model,
    optimizer: Any,
    settings: Recipe,
    labels: NDArray[np.int32],
    *,
    custom: Custom = NO_CUSTOM,
    parts: int | None = None,
    workers: Workers = ALONE,
) -> Engine:
    """Return the engine that trains ``network``, which maps images to logits, with ``optimizer``, already built.

    ``labels`` (n,) of the training images determine the class weights. ``parts`` and ``workers`` are as in ``Plan``.
    """
    train, class_weights = settings.train, class_weights_of(settings, labels)
    measured = partial(objective, label_smoothing=train.label_smoothing, custom=custom, class_weights=class_weights)
    own_rate = custom.optimizer is not None
    plan = Plan(settings.model.ghost_batch, train.precision, parts, workers, own_rate=own_rate)
    return adapter().compile(network, optimizer, measured, plan)
