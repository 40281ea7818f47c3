"""The very first step of a training, by itself: where two frameworks must still agree but for rounding."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import Steps, adapter
from cifarnet.data import batch_order, hold_out
from cifarnet.job import Job
from cifarnet.model import build_model, get_weights, logits_of
from cifarnet.spec import Dataset

from .objective import objective

STEP_SIZE = 2.0**20
"""Learning rate of the step of plain gradient descent from which the gradient is read.

A power of two scales without rounding, and one this large makes what the weights lose in the step far larger than the
weights: their difference is then the gradient within the rounding of one float32 operation, 6e-8 of it.
"""


@dataclass(frozen=True)
class FirstStep:
    """What the first batch says of the initial weights."""

    loss: float
    """Mean cross-entropy of the batch, dropout on, nats."""
    gradients: dict[str, NDArray[np.float32]]
    """Of the objective, by variable path, in the shapes of the weights."""


def first_step(job: Job, dataset: Dataset) -> FirstStep:
    """Return loss and gradients of the first batch that ``job`` trains on, with its initial weights and dropout masks.

    The gradient is what plain gradient descent takes from the weights, divided by its step size: the engine's own
    differentiation is used as it is.
    """
    network = logits_of(build_model(job.model, seed=job.train.seed))
    before = get_weights(network)
    optimizer = keras.optimizers.SGD(STEP_SIZE)
    optimizer.build(network.trainable_variables)
    engine = adapter().compile(network, optimizer, objective, precision=job.train.precision)
    images, labels = _first_batch(job, dataset)
    weights = np.ones((1, len(labels)), np.float32)
    (sums,) = engine.train(Steps(images[None], labels[None], weights, np.array([STEP_SIZE], np.float32)))
    loss = float(sums.loss) / len(labels)
    engine.state()  # writes the state back to the network's own variables
    after = get_weights(network)
    return FirstStep(loss, {path: (before[path] - after[path]) / np.float32(STEP_SIZE) for path in before})


def _first_batch(job: Job, dataset: Dataset) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    train = job.train
    indices = hold_out(dataset.train, train.validation_fraction, train.seed, len(dataset.labels)).train
    chosen = indices[batch_order(len(indices), train.seed, 1)[: train.batch_size]]
    return dataset.train.images[chosen], dataset.train.labels[chosen]
