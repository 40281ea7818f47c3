"""cifarnet's `Classifier.stream` over a folder, and its two parts alone: decoding, and the model."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import cifarnet
from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve_folder

from .pillow_folder import decoded

BATCH = 64
"""Images per call of the model where it is timed alone."""


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    classifier = cifarnet.Classifier(task.settings["model"])
    positions = {label: index for index, label in enumerate(classifier.labels)}

    def classify(folder: Path) -> list[int]:
        return [positions[outcome.prediction.label] for outcome in classifier.stream(folder) if outcome.prediction]

    def parts(folder: Path) -> Mapping[str, float]:
        began = time.perf_counter()
        with ThreadPoolExecutor(task.cores) as pool:
            images = np.stack(list(pool.map(decoded, sorted(folder.iterdir()))))
        decoded_at = time.perf_counter()
        for at in range(0, len(images), BATCH):
            classifier.probabilities(images[at : at + BATCH])
        return {"decoding_seconds": decoded_at - began, "model_seconds": time.perf_counter() - decoded_at}

    serve_folder(classify, task, turns, parts=parts)
