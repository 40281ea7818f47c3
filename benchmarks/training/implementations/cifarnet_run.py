"""cifarnet by its public API: `resume` with an observer that waits for each round."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.worker import Rounds, Task
from cifarnet.system import prepare_process


def run(task: Task, rounds: Rounds) -> None:
    """Train an epoch per round."""
    settings = task.settings
    prepare_process()
    cifarnet.choose_backend()
    whole = cifarnet.load_dataset(settings["source"])
    train = dataclasses.replace(whole.train, images=np.load(settings["images"]), labels=np.load(settings["labels"]))
    dataset = dataclasses.replace(whole, train=train)
    recipe = cifarnet.Recipe(
        name="seed",
        model=cifarnet.ModelConfig.from_json(settings["model"]),
        train=cifarnet.TrainConfig.from_json(settings["train"]),
    )
    from cifarnet.training.begin import begin  # Keras, now that its framework is chosen

    run = begin(recipe, dataset, task.folder / "runs")
    cifarnet.resume(run, dataset, observer=EpochPerRound(rounds, run.record.hold_out.train))


class EpochPerRound(cifarnet.Observer):
    """An observer that lets an epoch begin with each round.

    A round ends when an epoch is reported and the next begins there, so that each holds one checkpoint: that of the
    epoch before. The rate of training alone is taken between the first and the last progress within the epoch.
    """

    def __init__(self, rounds: Rounds, images: int, further: Callable[[], dict[str, Any]] = dict) -> None:
        """Report ``further()`` with each sample."""
        self._rounds, self._images, self._further = rounds, images, further
        self._marks: list[tuple[float, float]] = []
        rounds.ready()
        rounds.wait()

    def on_progress(self, progress: Any) -> None:
        """Note how far the epoch is."""
        self._marks.append((self._images * progress.step / progress.steps, self._rounds.elapsed()))

    def on_epoch(self, record: Any, progress: Any) -> None:
        """Report the epoch and wait for the next round."""
        self._rounds.done(
            seconds=self._rounds.elapsed(),
            images=self._images,
            training_rate=self._training_rate(),
            loss=record.train_loss,
            accuracy=record.train_accuracy,
            validation_loss=record.validation_loss,
            validation_accuracy=record.validation_accuracy,
            **self._further(),
        )
        self._marks.clear()
        self._rounds.wait()

    def _training_rate(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        return (last - first) / (ended - began)
