"""The rounds of an inference implementation: single images, batches, or a folder of files."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.worker import Rounds, Task

from . import implementations

LIMIT_S = 3
"""Seconds after which a round ends with fewer calls than planned: a slow implementation needs no more of them."""
ANSWERS = "answers.npy"
"""File of the answers that are checked before an implementation may be timed."""


def run(task: Task, rounds: Rounds) -> None:
    """Store the answers to be checked, then time the implementation batch by batch."""
    answer = getattr(implementations, task.options["function"])(task)
    images, size = np.load(task.settings["images"]), task.settings["batch"]
    batches = [images[at : at + size] for at in range(0, len(images) - size + 1, size)]
    checked = batches[: -(-task.settings["judged"] // size)]
    answers = [implementations.answer_array(answer(batch), task) for batch in checked]
    np.save(task.folder / ANSWERS, np.concatenate(answers))
    rounds.ready()
    while True:
        rounds.wait()
        seconds: list[float] = []
        while len(seconds) < task.settings["calls"] and sum(seconds) < LIMIT_S:
            seconds.append(_seconds(answer, batches[len(seconds) % len(batches)]))
        rounds.done(rate=size * len(seconds) / sum(seconds), microseconds=[round(1e6 * each, 1) for each in seconds])


def _seconds(answer: implementations.Answer, batch: Any) -> float:
    began = time.perf_counter()
    answer(batch)
    return time.perf_counter() - began


def run_folder(task: Task, rounds: Rounds) -> None:
    """Store the classes to be checked, then time the implementation on the whole folder."""
    classify = getattr(implementations, task.options["function"])(task)
    np.save(task.folder / ANSWERS, np.array(classify(Path(task.settings["judged_folder"]))))
    rounds.ready()
    while True:
        rounds.wait()
        files = len(classify(Path(task.settings["folder"])))
        seconds = rounds.elapsed()
        parts = implementations.cifarnet_parts(task) if task.options["function"] == "cifarnet_folder" else {}
        rounds.done(seconds=seconds, rate=files / seconds, files=files, **parts)
