"""``python -m benchmarks.recipes.ours RECIPE BACKEND SEED FOLDER DATA CHANGED``: train a recipe, and say how it goes.

CHANGED is JSON with the settings that are to be others.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.recipes.curve import say
from cifarnet.recipes import Recipe


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


def changed_recipe(name: str, changed: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other settings, as JSON has them."""
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in changed.items()}
    return cifarnet.recipe(name).changed(settings)


def main(name: str, backend: str, seed: int, folder: Path, source: str, changed: Mapping[str, Any]) -> None:
    """Train and score."""
    cifarnet.prepare_process()
    cifarnet.choose_backend(backend)
    dataset = cifarnet.open_dataset(source)
    settings = changed_recipe(name, changed).changed({"seed": seed})
    job = cifarnet.Job(recipe=name, model=settings.model, train=settings.train)
    run = cifarnet.start(job, dataset, folder)
    record = cifarnet.carry_out(run, dataset, Speaker())
    say(test_accuracy=record["metrics"]["test"]["accuracy"])
    from cifarnet.evaluation.scoring import evaluate, flip_averaged
    from cifarnet.model.network import predictor  # Keras, now that its framework is chosen
    from cifarnet.training.train import load_best

    flipped = evaluate(flip_averaged(predictor(load_best(run))), dataset.test)
    say(flip_test_accuracy=flipped.accuracy)


if __name__ == "__main__":
    name, backend, seed, folder, source, changed = sys.argv[1:]
    main(name, backend, int(seed), Path(folder), source, json.loads(changed))
