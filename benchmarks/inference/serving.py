"""A contender's turns: single images, batches, or a folder of files."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns

Answer = Callable[[NDArray[np.uint8]], Any]
"""Images uint8 (n, h, w, 3) to probabilities, in whatever form the contender gives them."""
MOST_SECONDS = 3
"""After which a turn ends with fewer calls than planned: a slow contender needs no more of them to be told apart."""
ANSWERS = "answers.npy"
"""What a contender leaves in its folder to be judged by, before it may be timed."""


def network_of(task: Task) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.float32]]]:
    """Return the fields of ``cifarnet.ModelConfig`` and the weights by name, in the order of the layers."""
    return task.settings["model_config"], dict(np.load(task.settings["weights"]))


def serve(
    answer: Answer, task: Task, turns: Turns, *, to_array: Callable[[Any], NDArray[np.float32]] = np.asarray
) -> None:
    """Show what ``answer`` says of the images to be judged by, then time it, batch by batch."""
    images, size = np.load(task.settings["images"]), task.settings["batch"]
    batches = [images[at : at + size] for at in range(0, len(images) - size + 1, size)]
    judged = batches[: -(-task.settings["judged"] // size)]
    np.save(task.folder / ANSWERS, np.concatenate([to_array(answer(batch)) for batch in judged]))
    turns.ready()
    calls = task.settings["calls"]
    while True:
        turns.wait()
        seconds: list[float] = []
        while len(seconds) < calls and sum(seconds) < MOST_SECONDS:
            seconds.append(_seconds(answer, batches[len(seconds) % len(batches)]))
        turns.done(rate=size * len(seconds) / sum(seconds), microseconds=[round(1e6 * each, 1) for each in seconds])


def _seconds(answer: Answer, batch: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    answer(batch)
    return time.perf_counter() - began


def serve_folder(
    classify: Callable[[Path], list[int]],
    task: Task,
    turns: Turns,
    *,
    parts: Callable[[Path], Mapping[str, float]] = lambda _: {},
) -> None:
    """Show what ``classify`` says of the files to be judged by, then time it on the whole folder.

    ``classify`` gives the class of each file, in the order of their names; ``parts`` what further is to be told.
    """
    folder = Path(task.settings["folder"])
    np.save(task.folder / ANSWERS, np.array(classify(Path(task.settings["judged_folder"]))))
    turns.ready()
    while True:
        turns.wait()
        files = len(classify(folder))
        seconds = turns.elapsed()
        turns.done(seconds=seconds, rate=files / seconds, files=files, **parts(folder))
