"""Calibration: reliability, temperature scaling and selective prediction."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import Coverage
from cifarnet.run.record import TARGET_ACCURACY, TEMPERATURES, Calibration

from .scoring import Probabilities, require_finite, score, softmax

BINS = 15
"""Number of equal-width bins of the reliability curve, as in Guo et al. 2017."""
DECIMALS = 4
"""Stored metrics are rounded to this many decimals, so that backends agree."""
PRIOR_DEVIATION = 0.5
"""Standard deviation of the prior of a temperature's logarithm: 95% between 0.38 and 2.7.

For the classifier in the package and 10, 30 and 100 test images of CIFAR-10, the mean log loss of 100 draws on other
images was 0.973, 0.419 and 0.221 nats without a prior, 0.228, 0.224 and 0.220 with it, and 0.356 uncalibrated; from
300 images on it was the same with and without.
"""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)
"""Coverages for which thresholds and accuracies are stored."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images with a confidence above ``low`` and up to ``high``, 0 to 1."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean confidence, 0 to 1, or None without images."""
    accuracy: float | None
    """Fraction of correct predictions, 0 to 1, or None without images."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well the probabilities match the observed frequencies."""

    temperature: float
    """Divisor of the logits; 1 for the unscaled network."""
    loss: float
    """Mean cross-entropy, nats."""
    brier: float
    """Brier score: mean squared distance between probabilities and one-hot labels, 0 to 2 (Brier 1950)."""
    ece: float
    """Expected calibration error: mean distance between confidence and accuracy, 0 to 1 (Naeini et al. 2015)."""
    bins: tuple[Bin, ...]


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


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> Calibration:
    """Fit temperature scaling (Guo et al. 2017, section 4.2) and thresholds to logits (n, classes) and labels (n,).

    All values are rounded to four decimals, so that backends agree. Raises ``DataError`` if logits are not finite.
    """
    require_finite(logits)
    temperature = fit_temperature(logits, labels)
    before, after = (reliability(logits, labels, value) for value in (1.0, temperature))
    curve = _coverage_curve(softmax(logits, temperature), labels)
    return Calibration(
        temperature=temperature,
        images=len(labels),
        ece_before=_rounded(before.ece),
        ece_after=_rounded(after.ece),
        loss_before=_rounded(before.loss),
        loss_after=_rounded(after.loss),
        coverage=tuple(
            _rounded_point(next(point for point in curve if point.coverage >= least)) for least in COVERAGES
        ),
        abstention=next((_rounded_point(point) for point in curve[::-1] if point.accuracy >= TARGET_ACCURACY), None),
    )


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


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Return the temperature with the lowest cross-entropy and prior, 0.05 to 20, rounded to four decimals.

    The prior of its logarithm is normal with mean 0: few images without an error would have the lowest loss at 0.05.
    """
    from scipy.optimize import minimize_scalar

    wide = logits.astype(np.float64)
    # The loss is convex in the inverse temperature, and nearly symmetric in its logarithm.
    result = minimize_scalar(
        lambda logarithm: (
            score(wide / np.exp(logarithm), labels).loss + (logarithm / PRIOR_DEVIATION) ** 2 / (2 * len(labels))
        ),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return _rounded(float(np.exp(result.x)))


def reliability(logits: NDArray[np.float32], labels: NDArray[np.int32], temperature: float = 1.0) -> Reliability:
    """Return loss, Brier score and calibration error of logits (n, classes) at ``temperature``."""
    from sklearn.metrics import brier_score_loss

    probabilities = softmax(logits, temperature)
    bins = tuple(_bins(probabilities, labels))
    gaps = [each.images * abs(each.accuracy - each.confidence) for each in bins if each.images]  # type: ignore[operator]
    classes = np.arange(logits.shape[1])
    brier = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    loss = score(logits.astype(np.float64) / temperature, labels).loss
    return Reliability(temperature=temperature, loss=loss, brier=float(brier), ece=sum(gaps) / len(labels), bins=bins)


def _bins(probabilities: Probabilities, labels: NDArray[np.int32]) -> Iterator[Bin]:
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    for at in range(BINS):
        inside = bins == at
        images = int(inside.sum())
        yield Bin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            images=images,
            confidence=float(confidence[inside].mean()) if images else None,
            accuracy=float(is_correct[inside].mean()) if images else None,
        )


def _coverage_curve(probabilities: Probabilities, labels: NDArray[np.int32]) -> list[Coverage]:
    """Return coverage and accuracy at every confidence that occurs as a threshold, highest threshold first."""
    # Rounded down and not to nearest, so that a prediction is accepted at the threshold as it is stored.
    confidence = np.floor(probabilities.max(axis=1) * 10**DECIMALS) / 10**DECIMALS
    is_correct = probabilities.argmax(axis=1) == labels
    negative, counts = np.unique(-confidence, return_counts=True)
    accepted = np.cumsum(counts)
    accuracy = np.cumsum(is_correct[np.argsort(-confidence, kind="stable")])[accepted - 1] / accepted
    rows = np.column_stack((accepted / len(labels), -negative, accuracy)).tolist()
    return [Coverage(coverage=row[0], threshold=row[1], accuracy=row[2]) for row in rows]


def _rounded_point(point: Coverage) -> Coverage:
    return Coverage(
        coverage=_rounded(point.coverage), threshold=_rounded(point.threshold), accuracy=_rounded(point.accuracy)
    )


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
