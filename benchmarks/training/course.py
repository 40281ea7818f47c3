"""What a training contender is given: images, their division, order and learning rates; and one loop for those by hand.

A contender that brings a loop of its own (`fit`, `carry_out`) uses the division alone.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns

VALIDATION_BATCH = 250
"""Images per call in validation."""


class Sums(NamedTuple):
    """Over all images of an epoch."""

    loss: float
    correct: float


class Epoch(NamedTuple):
    """One epoch's plan; the last step is filled up with image 0 at weight 0, so that all steps have one shape."""

    indices: NDArray[np.int32]
    """(steps, batch), positions among the training images."""
    weights: NDArray[np.float32]
    """(steps, batch), 1, or 0 where an image only fills up."""
    rates: NDArray[np.float32]
    """(steps,), learning rates."""


class Trainer(Protocol):
    """What a loop by hand consists of."""

    def train_epoch(self, epoch: Epoch) -> Sums:
        """Train on every image once and return the sums, when all work is finished."""

    def validate(self) -> Sums:
        """Return the sums over the validation images, dropout off."""

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return copies of the weights."""


@dataclass(frozen=True)
class Course:
    """The images of a training and how it is to go."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.int32]
    model: Mapping[str, Any]
    """Fields of ``cifarnet.ModelConfig``."""
    config: Mapping[str, Any]
    """Fields of ``cifarnet.TrainConfig``."""
    folder: Path

    @classmethod
    def of(cls, task: Task) -> "Course":
        """Read what ``task`` says."""
        parts = np.load(task.settings["parts"])
        images, labels = np.load(task.settings["images"]), np.load(task.settings["labels"])
        return cls(
            images[parts["train"]],
            labels[parts["train"]],
            images[parts["validation"]],
            labels[parts["validation"]],
            task.settings["model"],
            task.settings["train"],
            task.folder,
        )

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return int(self.config["batch_size"])

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return math.ceil(len(self.images) / self.batch_size)

    def epoch(self, number: int) -> Epoch:
        """Return the plan of an epoch, counted from 1."""
        order = np.random.default_rng([self.config["seed"], number]).permutation(len(self.images)).astype(np.int32)
        filled = np.zeros(self.steps * self.batch_size, np.int32)
        filled[: len(order)] = order
        weights = (np.arange(len(filled)) < len(order)).astype(np.float32)
        rates = np.array([self.rate(number - 1 + step / self.steps) for step in range(self.steps)], np.float32)
        shape = (self.steps, self.batch_size)
        return Epoch(filled.reshape(shape), weights.reshape(shape), rates)

    def rate(self, progress: float) -> float:
        """Return the learning rate after so many epochs: linear warm-up, and half a period of a cosine."""
        warmth = min(progress / self.config["warmup_epochs"], 1.0) if self.config["warmup_epochs"] else 1.0
        floor, done = self.config["floor_fraction"], min(progress / self.config["schedule_epochs"], 1.0)
        return float(self.config["learning_rate"] * warmth * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2))

    def validation_batches(self) -> list[slice]:
        """Return the positions of each validation batch."""
        return [
            slice(at, min(at + VALIDATION_BATCH, len(self.validation_images)))
            for at in range(0, len(self.validation_images), VALIDATION_BATCH)
        ]


class BestWeights:
    """What early stopping keeps: the weights of the best epoch, in memory and on disk."""

    def __init__(self, course: Course) -> None:
        self._path, self._min_delta, self._best = course.folder / "best.npz", course.config["min_delta"], math.inf

    def offer(self, loss: float, weights: Callable[[], Mapping[str, NDArray[np.float32]]]) -> None:
        """Keep the weights if the validation loss is the best so far."""
        if loss < self._best - self._min_delta:
            self._best = loss
            unfinished = self._path.with_suffix(".unfinished.npz")
            np.savez(unfinished, **weights())
            os.replace(unfinished, self._path)  # noqa: PTH105  # the whole file or none


def train_by_hand(course: Course, trainer: Trainer, turns: Turns) -> None:
    """Give every turn an epoch: order, training, validation, and the best weights kept."""
    best = BestWeights(course)
    turns.ready()
    for number in count(1):
        turns.wait()
        trained = trainer.train_epoch(course.epoch(number))
        training_seconds = turns.elapsed()
        validated = trainer.validate()
        images, held_out = len(course.images), len(course.validation_images)
        best.offer(validated.loss / held_out, trainer.weights)
        turns.done(
            images=images,
            training_rate=images / training_seconds,
            loss=trained.loss / images,
            accuracy=trained.correct / images,
            validation_loss=validated.loss / held_out,
            validation_accuracy=validated.correct / held_out,
        )
