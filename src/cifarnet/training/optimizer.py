"""What is minimised and how: the objective, Keras' optimizers with Adam by the adapter's operation, the learning rate.

All of it is written in Keras operations, so that the three frameworks compute the same.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from cifarnet.backends import AdamStep, Engine, Sums, adapter, keras_defaults
from cifarnet.config import TrainConfig


class Adam(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras ships no types
    """Adam with decoupled weight decay, by the framework's own operation where it has one.

    It takes the steps of ``keras.optimizers.Adam`` but for rounding; decay spares biases.
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
    """The defaults of ``keras.optimizers.Adam``."""

    def build(self, variables: Sequence[Any]) -> None:
        """Make the moving averages, under the names that ``keras.optimizers.Adam`` gives them."""
        if self.built:
            return
        super().build(variables)
        # Behind a function: Keras counts the variables in any other attribute as the optimizer's own.
        self._stepped: Callable[[], Sequence[Any]] = lambda: variables
        self._averages = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step on the variables that the optimizer was built for, in the order of ``build``."""
        self.iterations.assign_add(1)
        rate, count = self.learning_rate.value, self.iterations.value
        step = AdamStep(rate, count, self.weight_decay or 0.0, self.BETA_1, self.BETA_2, self.EPSILON)
        momentums, velocities = self._averages
        adapter().apply_adam(step, trainable_variables or self._stepped(), momentums, velocities, grads)


class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]  # Keras ships no types
    """Momentum orthogonalised for convolutions (Jordan et al. 2024), and Adam for all else.

    A kernel (k, k, c, filters) is taken as a matrix of as many columns as filters. Before each step it is scaled so
    that the squares of a filter add up to 1 on average, whatever the decay: a normalisation has to follow it, for which
    its scale is nothing. ``keras.optimizers.Muon`` would leave convolutions to Adam.
    """

    MOMENTUM = 0.6
    """Nesterov's, of convolutions; as published for short trainings of such networks."""
    BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-8
    """Adam's. Its second average is shorter than usual: a training has some hundred steps."""
    ITERATIONS = 3
    """Of the polynomial, as published for such trainings."""
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    """Of the polynomial that takes singular values from 0 to 1 towards 1, as published."""
    LEAST_NORM = 1e-7
    """Added to the norm that a matrix is divided by, as published: there may be no gradient at all."""
    ADAM_RATIO = 0.05
    """Adam's learning rate over that of the convolutions: 5e-3 in the recipe ``fast``, where the latter is 0.1.

    By hand; twice as much gained nothing in one training of six epochs.
    """

    def build(self, variables: Any) -> None:
        """Make the moving averages."""
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
        """Change one variable."""
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
        """Return about ``U @ V.T`` of the singular value decomposition, by Newton and Schulz' iteration."""
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
"""Classes by the names that ``TrainConfig.optimizer`` admits."""

SGD_MOMENTUM = 0.9
"""Nesterov momentum (Sutskever et al. 2013): SGD without it needs several times the epochs."""


@keras_defaults()
def build_optimizer(config: TrainConfig, network: Any) -> keras.optimizers.Optimizer:
    """Return the optimizer with its variables built for ``network``; weight decay spares all but kernels."""
    momentum = {"momentum": SGD_MOMENTUM, "nesterov": True} if config.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, name="optimizer", **momentum
    )
    optimizer.exclude_from_weight_decay(var_list=[each for each in network.trainable_variables if each.ndim == 1])
    optimizer.build(network.trainable_variables)
    return optimizer


def learning_rate_at(config: TrainConfig, progress: float) -> float:
    """Return the learning rate after ``progress`` epochs, a fraction within an epoch included."""
    warmth = min(progress / config.warmup_epochs, 1.0) if config.warmup_epochs else 1.0
    return config.learning_rate * warmth * _schedule(config, progress)


def _schedule(config: TrainConfig, progress: float) -> float:
    if config.schedule == "constant":
        return 1.0
    done = min(progress / (config.schedule_epochs or config.epochs), 1.0)
    if config.schedule == "linear":
        return config.floor_fraction + (1 - config.floor_fraction) * (1 - done)
    return config.floor_fraction + (1 - config.floor_fraction) * (1 + math.cos(math.pi * done)) / 2


def objective(logits: Any, labels: Any, weights: Any, label_smoothing: float = 0.0) -> Sums:
    """Return the cross-entropy and the number of right answers, summed over a batch.

    ``logits`` is float32 (n, classes), ``labels`` int32 (n,), ``weights`` float32 (n,): 0 for an image that only fills
    the batch up, 1 for every other. It is Keras' ``sparse_categorical_crossentropy``, taken from the logits because
    the logarithm of a rounded probability differs between the frameworks. The part ``label_smoothing`` of the target is
    shared by all classes, the labelled one included (Szegedy et al. 2016, section 7).
    """
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if label_smoothing:
        shared = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * shared
    hits = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "float32")
    return Sums(loss=ops.sum(losses * weights), correct=ops.sum(hits * weights))


def compile_engine(network: keras.Model, optimizer: Any, config: TrainConfig, ghost_batch: int) -> Engine:
    """Return the engine that trains ``network`` (images to logits) as ``config`` says."""
    to_minimise = partial(objective, label_smoothing=config.label_smoothing)
    return adapter().compile(network, optimizer, to_minimise, ghost_batch, config.precision)
