"""Checks of an implementation's answers against cifarnet's, before it may be timed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness.rounds import Check

from .timing import ANSWERS

LARGEST_DIFFERENCE = 1e-4
"""Largest accepted difference of a probability. Measured between correct implementations: 3e-6."""
FEWEST_EQUAL = 0.999
"""Least fraction of files with cifarnet's class: a tie may fall either way."""


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
