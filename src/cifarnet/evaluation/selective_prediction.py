"""Selective prediction: reject predictions below a confidence threshold, fitted for an accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import Coverage
from cifarnet.run.record import TARGET_ACCURACY

from .scoring import Probabilities, softmax

DECIMALS = 4
"""Stored metrics are rounded to this many decimals, so that backends agree."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)
"""Coverages for which thresholds and accuracies are stored."""


@dataclass(frozen=True, kw_only=True)
class SelectivePrediction:
    """Coverage and accuracy on some images if predictions below a confidence threshold are rejected."""

    threshold: float
    """Minimum calibrated confidence, 0 to 1, fitted on other images."""
    answered: int
    """Number of images with an accepted prediction."""
    coverage: float
    """Share of the images with an accepted prediction, 0 to 1."""
    accuracy: float | None
    """Accuracy of the accepted predictions, 0 to 1, or None without any."""


def selective_prediction(
    logits: NDArray[np.float32], labels: NDArray[np.int32], temperature: float, threshold: float
) -> SelectivePrediction:
    """Return coverage and accuracy of logits (n, classes) at a confidence ``threshold``, 0 to 1."""
    is_accepted = softmax(logits, temperature).max(axis=1) >= threshold
    is_correct = (logits.argmax(axis=1) == labels)[is_accepted]
    return SelectivePrediction(
        threshold=threshold,
        answered=len(is_correct),
        coverage=len(is_correct) / len(labels),
        accuracy=float(is_correct.mean()) if len(is_correct) else None,
    )


def coverage_curve(probabilities: Probabilities, labels: NDArray[np.int32]) -> list[Coverage]:
    """Return coverage and accuracy at every confidence that occurs as a threshold, highest threshold first."""
    # Rounded down and not to nearest, so that a prediction is accepted at the threshold as it is stored.
    confidence = np.floor(probabilities.max(axis=1) * 10**DECIMALS) / 10**DECIMALS
    is_correct = probabilities.argmax(axis=1) == labels
    negative, counts = np.unique(-confidence, return_counts=True)
    accepted = np.cumsum(counts)
    accuracy = np.cumsum(is_correct[np.argsort(-confidence, kind="stable")])[accepted - 1] / accepted
    rows = np.column_stack((accepted / len(labels), -negative, accuracy)).tolist()
    return [Coverage(coverage=row[0], threshold=row[1], accuracy=row[2]) for row in rows]


def at_coverages(curve: Sequence[Coverage]) -> tuple[Coverage, ...]:
    """Return the first point of ``curve`` that reaches each of ``COVERAGES``."""
    return tuple(_rounded(next(point for point in curve if point.coverage >= least)) for least in COVERAGES)


def fit_threshold(curve: Sequence[Coverage]) -> Coverage | None:
    """Return the point of ``curve`` with the most coverage that has ``TARGET_ACCURACY``, or None without one."""
    return next((_rounded(point) for point in reversed(curve) if point.accuracy >= TARGET_ACCURACY), None)


def _rounded(point: Coverage) -> Coverage:
    return Coverage(
        coverage=round(point.coverage, DECIMALS),
        threshold=round(point.threshold, DECIMALS),
        accuracy=round(point.accuracy, DECIMALS),
    )
