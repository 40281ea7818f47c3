"""The first step of a training run, at which frameworks differ by rounding only."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import Steps, default_settings
from cifarnet.data import HoldOut, batch_order, hold_out_of
from cifarnet.data.augmentation import Augmentation
from cifarnet.dataset import Dataset, Split
from cifarnet.model.network import logits_of
from cifarnet.model.weights import get_weights
from cifarnet.recipes import Recipe

from .optimizer import compile_engine
from .train import initial_model

STEP_SIZE = 2.0**20
"""Learning rate of the step of gradient descent from which the gradient is computed.

A power of two scales without rounding, and one this large makes what the weights lose in the step far larger than the
weights: their difference is then the gradient within the rounding of one float32 operation, 6e-8 of it.
"""


@dataclass(frozen=True)
class FirstStep:
    """Loss and gradients of the first batch at the initial weights."""

    loss: float
    """Mean training loss of the batch, with dropout and label smoothing, nats."""
    gradients: dict[str, NDArray[np.float32]]
    """Gradients of that loss, by path of each trainable variable, in the shapes of the weights."""


def first_step(settings: Recipe, dataset: Dataset) -> FirstStep:
    """Return loss and gradients of the first batch of a training run.

    The gradient is the change of the weights in a step of gradient descent, divided by its step size, so that it is
    that of the engine itself.
    """
    parts = hold_out_of(dataset, settings.train)
    network = logits_of(initial_model(settings, dataset.train, parts))
    before = _trained(network)
    with default_settings():
        optimizer = keras.optimizers.SGD(STEP_SIZE)
        optimizer.build(network.trainable_variables)
    engine = compile_engine(network, optimizer, settings, dataset.train.labels[parts.train])
    images, labels = _first_batch(settings, dataset.train, parts)
    weights = np.ones((1, len(labels)), np.float32)
    (sums,) = engine.train(Steps(images[None], labels[None], weights, np.array([STEP_SIZE], np.float32)))
    loss = float(sums.loss) / len(labels)
    engine.state()  # writes the state back to the network's own variables
    after = _trained(network)
    return FirstStep(loss, {path: (before[path] - after[path]) / np.float32(STEP_SIZE) for path in before})


def _trained(network: keras.Model) -> dict[str, NDArray[np.float32]]:
    weights = get_weights(network)
    return {variable.path: weights[variable.path] for variable in network.trainable_variables}


def _first_batch(settings: Recipe, split: Split, parts: HoldOut) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    train = settings.train
    chosen = parts.train[batch_order(len(parts.train), train.seed, 1)[: train.batch_size]]
    views = Augmentation(train, len(split), 1)
    return views(split.images[chosen], chosen), split.labels[chosen]
