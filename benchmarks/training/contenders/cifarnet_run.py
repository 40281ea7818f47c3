"""cifarnet, by its public API: `carry_out` with an observer that lets an epoch begin when it is its turn."""

import dataclasses
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.turns import Task, Turns


def contend(task: Task, turns: Turns) -> None:
    """Train until there is no further turn."""
    settings = task.settings
    cifarnet.prepare_process()
    cifarnet.choose_backend()
    whole = cifarnet.open_dataset(settings["source"])
    train = dataclasses.replace(whole.train, images=np.load(settings["images"]), labels=np.load(settings["labels"]))
    dataset = dataclasses.replace(whole, train=train)
    job = cifarnet.Job(
        recipe="seed",
        model=cifarnet.ModelConfig.from_json(settings["model"]),
        train=cifarnet.TrainConfig.from_json(settings["train"]),
    )
    run = cifarnet.start(job, dataset, task.folder / "runs")
    images = run.read_record()["hold_out"]["train"]
    cifarnet.carry_out(run, dataset, TakingTurns(turns, images))


class TakingTurns(cifarnet.Silent):
    """An observer that gives every turn an epoch.

    A turn ends when an epoch is reported and the next begins there, so that each holds one checkpoint: that of the
    epoch before. The rate of training alone is taken between the first and the last progress within the epoch.
    """

    def __init__(self, turns: Turns, images: int) -> None:
        self._turns, self._images = turns, images
        self._marks: list[tuple[float, float]] = []
        turns.ready()
        turns.wait()

    def on_progress(self, progress: Any) -> None:
        """Note how far the epoch is."""
        self._marks.append((self._images * progress.step / progress.steps, self._turns.elapsed()))

    def on_epoch(self, record: Any, progress: Any) -> None:
        """Report the epoch and wait for the next turn."""
        seconds = self._turns.elapsed()
        self._turns.done(
            seconds=seconds,
            images=self._images,
            training_rate=self._training_rate(),
            loss=record.train_loss,
            accuracy=record.train_accuracy,
            validation_loss=record.validation_loss,
            validation_accuracy=record.validation_accuracy,
        )
        self._marks.clear()
        self._turns.wait()

    def _training_rate(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        return (last - first) / (ended - began)
