"""``python -m benchmarks.recipes.ours RECIPE BACKEND SEED FOLDER``: train a recipe, and say how it goes.

A further argument, JSON with other settings, makes a toy of it, on synthetic images.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.recipes.curve import say


class Speaker:
    """An observer that says each epoch's figures."""

    def on_progress(self, progress: Any) -> None:
        """Say nothing."""

    def on_epoch(self, record: Any, progress: Any) -> None:
        """Say what the epoch gave."""
        say(
            epoch=record.epoch,
            train_accuracy=record.train_accuracy,
            validation_accuracy=record.validation_accuracy,
            validation_loss=record.validation_loss,
        )


def main(name: str, backend: str, seed: int, folder: Path, toy: Mapping[str, Any]) -> None:
    """Train and score."""
    cifarnet.choose_backend(backend)
    source = "synthetic" if toy else "cifar10"
    dataset = cifarnet.open_dataset(source)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in toy.items()}
    settings = cifarnet.recipe(name).changed(changes | {"seed": seed})
    job = cifarnet.Job(recipe=name, model=settings.model, train=settings.train, source=source)
    run = cifarnet.start(job, dataset, folder)
    record = cifarnet.carry_out(run, dataset, Speaker())
    say(test_accuracy=record["metrics"]["test"]["accuracy"])
    from cifarnet.evaluation import evaluate, flip_averaged
    from cifarnet.model import predictor  # Keras, now that its framework is chosen
    from cifarnet.training import load_best

    flipped = evaluate(flip_averaged(predictor(load_best(run))), dataset.test)
    say(flip_test_accuracy=flipped.accuracy)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), json.loads((*sys.argv, "{}")[5]))
