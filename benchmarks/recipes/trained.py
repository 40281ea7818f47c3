"""Train a recipe and report each epoch, as a process of ``python -m benchmarks.recipes``.

Arguments: recipe, backend, seed, folder for the run, data, and JSON with settings that differ from the recipe's.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.recipes import report
from cifarnet.recipes import Recipe
from cifarnet.system import prepare_process


class Reporter(cifarnet.Observer):
    """An observer that reports each epoch."""

    def on_epoch(self, record: Any, progress: Any) -> None:
        """Report the figures of the epoch."""
        names = ("epoch", "train_accuracy", "validation_accuracy", "validation_loss")
        report(**{name: getattr(record, name) for name in names})


def changed_recipe(name: str, changed: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other settings, as JSON has them."""
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in changed.items()}
    return cifarnet.recipe(name).changed(settings)


def main(name: str, backend: str, seed: int, folder: Path, source: str, changed: Mapping[str, Any]) -> None:
    """Train and evaluate."""
    prepare_process()
    cifarnet.choose_backend(backend)
    dataset = cifarnet.load_dataset(source)
    settings = changed_recipe(name, changed).changed({"seed": seed})
    run = cifarnet.train(
        dataset,
        name,
        runs=folder,
        model_config=settings.model,
        train_config=settings.train,
        observer=Reporter(),
    )
    report(test_accuracy=run.record.metrics.test.accuracy)
    from cifarnet.evaluation.scoring import evaluate, with_tta
    from cifarnet.model.network import predictor  # Keras, now that its framework is chosen

    forward = predictor(run.load_model())
    for views, key in ((2, "flip_test_accuracy"), (6, "six_view_test_accuracy")):
        report(**{key: evaluate(with_tta(forward, views), dataset.test).accuracy})


if __name__ == "__main__":
    name, backend, seed, folder, source, changed = sys.argv[1:]
    main(name, backend, int(seed), Path(folder), source, json.loads(changed))
