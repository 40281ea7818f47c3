"""Results of a ``Classifier``: for one image, and for one file of a stream."""

from dataclasses import dataclass
from pathlib import Path

from cifarnet.arguments import described
from cifarnet.config import plain_number
from cifarnet.errors import DataError, UsageError


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image."""

    scores: tuple[tuple[str, float], ...]
    """All classes with their probabilities, 0 to 1, most probable first."""
    calibrated: tuple[tuple[str, float], ...] | None = None
    """The same with calibrated probabilities, or None if the model file has no temperature."""

    @property
    def confidence(self) -> float | None:
        """Calibrated probability of the most probable class, 0 to 1, or None if the model file has no temperature."""
        return None if self.calibrated is None else self.calibrated[0][1]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.scores[0][0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class, 0 to 1."""
        return self.scores[0][1]

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
