"""Results of a ``Classifier``: for one image, and for one file of a stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifarnet.arguments import described
from cifarnet.config import plain_number
from cifarnet.errors import DataError, UsageError


class Prediction:
    """The prediction for one image.

    Values are computed when they are read, so a batch of predictions costs little more than its probabilities.
    """

    def __init__(
        self,
        labels: Sequence[str],
        best: int,
        probabilities: NDArray[np.float32],
        calibrated: NDArray[np.float32] | None = None,
    ) -> None:
        """Take all class names, the index of the most probable one, and all probabilities, float32 (classes,)."""
        self._labels, self._best = labels, best
        self._probabilities, self._calibrated = probabilities, calibrated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prediction) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Prediction(scores={self.scores}, calibrated={self.calibrated})"

    def _key(self) -> tuple[object, object]:
        return self.scores, self.calibrated

    @cached_property
    def scores(self) -> tuple[tuple[str, float], ...]:
        """All classes with their probabilities, 0 to 1, most probable first; ties in the order of the labels."""
        return self._ranked(self._probabilities)

    @cached_property
    def calibrated(self) -> tuple[tuple[str, float], ...] | None:
        """The same with calibrated probabilities, or None if the model file has no temperature."""
        return None if self._calibrated is None else self._ranked(self._calibrated)

    @property
    def confidence(self) -> float | None:
        """Calibrated probability of the most probable class, 0 to 1, or None if the model file has no temperature."""
        return None if self._calibrated is None else float(self._calibrated[self._best])

    @property
    def label(self) -> str:
        """The most probable class."""
        return self._labels[self._best]

    @property
    def probability(self) -> float:
        """Probability of the most probable class, 0 to 1."""
        return float(self._probabilities[self._best])

    def _ranked(self, outputs: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        values = outputs.tolist()
        return tuple((self._labels[index], values[index]) for index in (-self._probabilities).argsort(kind="stable"))

    def top(self, count: int) -> tuple[tuple[str, float], ...]:
        """Return the ``count`` most probable classes, 1 to all of them, with their probabilities, 0 to 1.

        Raises ``UsageError`` for another count.
        """
        if type(plain_number(count)) is not int or not 1 <= count <= len(self.scores):
            raise UsageError(
                f"top is {described(count)}; expected 1 to {len(self.scores)}, the number of classes: change it"
            )
        return self.scores[:count]


@dataclass(frozen=True)
class Outcome:
    """Result for one file of a stream: a prediction or an error."""

    path: Path
    prediction: Prediction | None = None
    error: DataError | None = None
