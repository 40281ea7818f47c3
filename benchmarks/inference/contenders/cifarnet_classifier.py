"""cifarnet's `Classifier`, by its public API: the exported file, probabilities or whole predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

import cifarnet
from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    classifier = cifarnet.Classifier(task.settings["model"], threads=task.cores)
    if not task.options["predictions"]:
        serve(classifier.probabilities, task, turns)

    def to_array(predictions: list[cifarnet.Prediction]) -> NDArray[np.float32]:
        rows: list[Any] = [dict(prediction.scores) for prediction in predictions]
        return np.array([[row[label] for label in classifier.labels] for row in rows], np.float32)

    serve(classifier, task, turns, to_array=to_array)
