"""What a training starts from: the network with its initial weights, and the engine that minimises the objective."""

from functools import partial
from typing import Any

import keras

from cifarnet.backends import Engine, adapter
from cifarnet.config import TrainConfig
from cifarnet.data import HoldOut, evenly_chosen
from cifarnet.job import Job
from cifarnet.model import build_model, whiten
from cifarnet.spec import Split

from .objective import objective

WHITENING_IMAGES = 5000
"""At most so many training images tell how patches are to be whitened."""


def initial_model(job: Job, split: Split, parts: HoldOut) -> keras.Model:
    """Return the network of ``job`` with the weights that its first step begins from, unless it starts from a run."""
    model = build_model(job.model, seed=job.train.seed)
    if job.model.whitening:
        # Spread over all of them, so that every class of a sorted folder is among them.
        whiten(model, job.model, split.images[evenly_chosen(parts.train, WHITENING_IMAGES)])
    return model


def compile_engine(network: keras.Model, optimizer: Any, config: TrainConfig, ghost_batch: int) -> Engine:
    """Return the engine that trains ``network`` (images to logits) as ``config`` says."""
    to_minimise = partial(objective, label_smoothing=config.label_smoothing)
    return adapter().compile(network, optimizer, to_minimise, ghost_batch, config.precision)
