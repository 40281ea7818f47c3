"""Calibration: reliability and temperature scaling."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.run.record import TEMPERATURES, Calibration

from .scoring import Probabilities, require_finite, score, softmax
from .selective_prediction import DECIMALS, at_coverages, coverage_curve, fit_threshold

BINS = 15
"""Number of equal-width bins of the reliability curve, as in Guo et al. 2017."""
PRIOR_DEVIATION = 0.5
"""Standard deviation of the prior of a temperature's logarithm: 95% between 0.38 and 2.7.

For the classifier in the package and 10, 30 and 100 test images of CIFAR-10, the mean log loss of 100 draws on other
images was 0.973, 0.419 and 0.221 nats without a prior, 0.228, 0.224 and 0.220 with it, and 0.356 uncalibrated; from
300 images on it was the same with and without.
"""


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


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> Calibration:
    """Fit temperature scaling (Guo et al. 2017, section 4.2) and thresholds to logits (n, classes) and labels (n,).

    All values are rounded to four decimals, so that backends agree. Raises ``DataError`` if logits are not finite.
    """
    require_finite(logits)
    temperature = fit_temperature(logits, labels)
    before, after = (reliability(logits, labels, value) for value in (1.0, temperature))
    curve = coverage_curve(softmax(logits, temperature), labels)
    return Calibration(
        temperature=temperature,
        images=len(labels),
        ece_before=_rounded(before.ece),
        ece_after=_rounded(after.ece),
        loss_before=_rounded(before.loss),
        loss_after=_rounded(after.loss),
        coverage=at_coverages(curve),
        abstention=fit_threshold(curve),
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


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
