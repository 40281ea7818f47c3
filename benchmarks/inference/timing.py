"""The rounds of an inference implementation, and the check of its answers before it may be timed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.rounds import Check
from benchmarks.harness.worker import Rounds, Task

from . import implementations

LIMIT_S = 3
"""Seconds after which a round ends with fewer calls than planned: a slow implementation needs no more of them."""
ANSWERS = "answers.npy"
"""File of the answers that are checked before an implementation may be timed."""
LARGEST_DIFFERENCE = 1e-4
"""Largest accepted difference of a probability. Measured between correct implementations: 3e-6."""
FEWEST_EQUAL = 0.999
"""Least fraction of files with cifarnet's class: a tie may fall either way."""


def run(task: Task, rounds: Rounds) -> None:
    """Store the answers to be checked, then time the implementation batch by batch."""
    answer = getattr(implementations, task.options["function"])(task)
    images, size = np.load(task.settings["images"]), task.settings["batch"]
    batches = [images[at : at + size] for at in range(0, len(images) - size + 1, size)]
    checked = batches[: -(-task.settings["checked_images"] // size)]
    answers = [implementations.answer_array(answer(batch), task) for batch in checked]
    if task.options["checked"]:
        np.save(task.folder / ANSWERS, np.concatenate(answers))
    rounds.ready()
    scored: dict[str, float] = {}
    while True:
        rounds.wait()
        seconds: list[float] = []
        while len(seconds) < task.settings["calls"] and sum(seconds) < LIMIT_S:
            seconds.append(_seconds(answer, batches[len(seconds) % len(batches)]))
        elapsed = rounds.elapsed()
        if size > 1 and not scored:
            scored = {"accuracy": _accuracy(answer, batches, task)}
        rates = {"rate": size * len(seconds) / sum(seconds), "microseconds": [round(1e6 * each, 1) for each in seconds]}
        rounds.done(seconds=elapsed, **rates, **scored)


def _accuracy(answer: implementations.Answer, batches: list[Any], task: Task) -> float:
    """Return the accuracy, 0 to 1, on all whole batches of the test images."""
    classes = [implementations.answer_array(answer(batch), task).argmax(axis=1) for batch in batches]
    found = np.concatenate(classes)
    return float((found == np.load(task.settings["classes"])[: len(found)]).mean())


def _seconds(answer: implementations.Answer, batch: Any) -> float:
    began = time.perf_counter()
    answer(batch)
    return time.perf_counter() - began


def run_folder(task: Task, rounds: Rounds) -> None:
    """Store the classes to be checked, then time the implementation on the whole folder."""
    classify = getattr(implementations, task.options["function"])(task)
    np.save(task.folder / ANSWERS, np.array(classify(Path(task.settings["checked_folder"]))))
    rounds.ready()
    while True:
        rounds.wait()
        files = len(classify(Path(task.settings["folder"])))
        seconds = rounds.elapsed()
        parts = implementations.cifarnet_parts(task) if task.options["function"] == "cifarnet_folder" else {}
        rounds.done(seconds=seconds, rate=files / seconds, files=files, **parts)


def check_probabilities(expected: np.ndarray) -> Check:
    """Return the check for the ``expected`` probabilities (n, classes)."""

    def check(answers: np.ndarray) -> str | None:
        difference = float(abs(answers - expected[: len(answers)]).max())
        agrees = difference <= LARGEST_DIFFERENCE  # False for NaN
        return None if agrees else f"a probability differs by {difference:.1e} from cifarnet's"

    return _of_file(check)


def check_classes(expected: np.ndarray) -> Check:
    """Return the check for the classes of the ``expected`` probabilities, one per file."""

    def check(classes: np.ndarray) -> str | None:
        wanted = expected.argmax(axis=1)
        if len(classes) == 0 or len(classes) > len(wanted):
            return f"{len(classes)} answers"
        equal = float((classes == wanted[: len(classes)]).mean())
        return None if equal >= FEWEST_EQUAL else f"only {equal:.1%} of the files have cifarnet's class"

    return _of_file(check)


def _of_file(check: Callable[[np.ndarray], str | None]) -> Check:
    def of_folder(folder: Path) -> str | None:
        path = folder / ANSWERS
        return check(np.load(path)) if path.exists() else None  # the matrix product answers nothing

    return of_folder
