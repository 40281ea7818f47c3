"""The work of a training: images, order and learning rates; and the loop that hand-written trainers share.

An implementation with a loop of its own (`fit`, `resume`) uses the images alone.
"""

import math
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.worker import Rounds, Task

VALIDATION_BATCH = 250
"""Images per call in validation."""


class Sums(NamedTuple):
    """Sums over all images of an epoch."""

    loss: float
    correct: float


class Epoch(NamedTuple):
    """The steps of one epoch; the last one is padded with image 0 at weight 0, so that all steps have one shape."""

    indices: NDArray[np.int32]
    """(steps, batch), positions among the training images."""
    weights: NDArray[np.float32]
    """(steps, batch), 1, or 0 for padding."""
    rates: NDArray[np.float32]
    """(steps,), learning rates."""


class Trainer(Protocol):
    """A hand-written training loop."""

    def train_epoch(self, epoch: Epoch) -> Sums:
        """Train on every image once and return the sums, when all work is finished."""

    def validate(self) -> Sums:
        """Return the sums over the validation images, dropout off."""

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return copies of the weights."""


class Workload:
    """The images of a training, and its settings."""

    def __init__(self, task: Task) -> None:
        parts = np.load(task.settings["parts"])
        images, labels = np.load(task.settings["images"]), np.load(task.settings["labels"])
        self.images, self.labels = images[parts["train"]], labels[parts["train"]]
        self.validation_images, self.validation_labels = images[parts["validation"]], labels[parts["validation"]]
        self.model: Mapping[str, Any] = task.settings["model"]
        """Fields of ``cifarnet.ModelConfig``."""
        self.config: Mapping[str, Any] = task.settings["train"]
        """Fields of ``cifarnet.TrainConfig``."""
        self.batch_size = int(self.config["batch_size"])
        self.steps = math.ceil(len(self.images) / self.batch_size)
        """Steps per epoch."""

    def epoch(self, number: int) -> Epoch:
        """Return the steps of an epoch, counted from 1."""
        order = np.random.default_rng([self.config["seed"], number]).permutation(len(self.images)).astype(np.int32)
        padded = np.zeros(self.steps * self.batch_size, np.int32)
        padded[: len(order)] = order
        weights = (np.arange(len(padded)) < len(order)).astype(np.float32)
        rates = np.array([self.rate(number - 1 + step / self.steps) for step in range(self.steps)], np.float32)
        shape = (self.steps, self.batch_size)
        return Epoch(padded.reshape(shape), weights.reshape(shape), rates)

    def rate(self, epochs: float) -> float:
        """Return the learning rate after so many epochs: linear warm-up, and half a period of a cosine."""
        warm_up = min(epochs / self.config["warmup_epochs"], 1.0) if self.config["warmup_epochs"] else 1.0
        floor, done = self.config["floor_fraction"], min(epochs / self.config["schedule_epochs"], 1.0)
        return float(
            self.config["learning_rate"] * warm_up * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
        )

    def validation_batches(self) -> list[slice]:
        """Return the positions of each validation batch."""
        return [slice(at, at + VALIDATION_BATCH) for at in range(0, len(self.validation_images), VALIDATION_BATCH)]


def train_in_rounds(workload: Workload, trainer: Trainer, rounds: Rounds, folder: Path) -> None:
    """Train an epoch per round: order, training, validation, and the best weights stored."""
    images, held_out, best = len(workload.images), len(workload.validation_images), math.inf
    rounds.ready()
    for number in count(1):
        rounds.wait()
        trained = trainer.train_epoch(workload.epoch(number))
        training_seconds = rounds.elapsed()
        validated = trainer.validate()
        loss = validated.loss / held_out
        if loss < best - workload.config["min_delta"]:
            best = loss
            np.savez(folder / "unfinished.npz", **trainer.weights())
            (folder / "unfinished.npz").replace(folder / "best.npz")
        rounds.done(
            images=images,
            training_rate=images / training_seconds,
            loss=trained.loss / images,
            accuracy=trained.correct / images,
            validation_loss=loss,
            validation_accuracy=validated.correct / held_out,
        )
