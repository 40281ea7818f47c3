"""Whether probabilities can be taken at their word, and the temperature that makes them so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.run_record import TARGET_ACCURACY, TEMPERATURES, Calibration, Coverage

from .probability import Probabilities, require_finite, softmax
from .scoring import score

BINS = 15
"""Of the reliability curve, equally wide, as in Guo et al. 2017."""
DECIMALS = 4
"""Of what is stored: more would tell one machine's rounding from another's, and nothing about the network."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)
"""Shares of the images that are answered, of which the accuracy is told."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose largest probability lies between ``low`` (not included) and ``high``."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean of their largest probability; nothing where there are no images."""
    accuracy: float | None
    """Fraction of them that are right; nothing where there are no images."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far probabilities can be taken at their word."""

    temperature: float
    """What the logits were divided by; 1 is the network as it is."""
    loss: float
    """Mean cross-entropy, nats."""
    brier: float
    """Brier score: mean squared distance of the probabilities from the truth, 0 to 2 (Brier 1950)."""
    ece: float
    """Expected calibration error: mean distance of confidence from accuracy, 0 to 1 (Naeini et al. 2015)."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Abstaining:
    """What becomes of images when only those are answered whose calibrated confidence is at least ``threshold``."""

    threshold: float
    """Fitted on other images, 0 to 1."""
    answered: int
    """Images that are answered."""
    coverage: float
    """Share of the images that is answered, 0 to 1."""
    accuracy: float | None
    """Of the answers, 0 to 1; nothing where there are none."""


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> Calibration:
    """Fit the temperature (Guo et al. 2017, section 4.2) to logits (n, classes) of held-out images.

    All figures are rounded to four decimals, so that the frameworks agree about them. Raises ``DataError`` for logits
    that are not finite.
    """
    require_finite(logits)
    temperature = fit_temperature(logits, labels)
    before, after = (reliability(logits, labels, each) for each in (1.0, temperature))
    trade = _Trade(softmax(logits, temperature), labels)
    return Calibration(
        temperature=temperature,
        images=len(labels),
        ece_before=_rounded(before.ece),
        ece_after=_rounded(after.ece),
        loss_before=_rounded(before.loss),
        loss_after=_rounded(after.loss),
        coverage=tuple(trade.at(coverage) for coverage in COVERAGES),
        abstention=trade.most_at(TARGET_ACCURACY),
    )


def abstaining(
    logits: NDArray[np.float32], labels: NDArray[np.int32], temperature: float, threshold: float
) -> Abstaining:
    """Return what is answered of logits (n, classes) at ``threshold``, 0 to 1, and how often that is right."""
    is_answered = softmax(logits, temperature).max(axis=1) >= threshold
    right = (logits.argmax(axis=1) == labels)[is_answered]
    return Abstaining(
        threshold=threshold,
        answered=len(right),
        coverage=len(right) / len(labels),
        accuracy=float(right.mean()) if len(right) else None,
    )


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Return the temperature with the least cross-entropy, 0.05 to 20, four decimals."""
    from scipy.optimize import minimize_scalar

    wide = logits.astype(np.float64)
    # The loss is convex in the inverse temperature, and nearly symmetric in its logarithm.
    found = minimize_scalar(
        lambda logarithm: score(wide / np.exp(logarithm), labels).loss,
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return _rounded(float(np.exp(found.x)))


def reliability(logits: NDArray[np.float32], labels: NDArray[np.int32], temperature: float = 1.0) -> Reliability:
    """Return how far the probabilities of logits (n, classes) at ``temperature`` can be taken at their word."""
    from sklearn.metrics import brier_score_loss

    probabilities = softmax(logits, temperature)
    bins = _bins(probabilities, labels)
    gaps = [each.images * abs(each.accuracy - each.confidence) for each in bins if each.images]  # type: ignore[operator]
    classes = np.arange(logits.shape[1])
    brier = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    loss = score(logits.astype(np.float64) / temperature, labels).loss
    return Reliability(temperature=temperature, loss=loss, brier=float(brier), ece=sum(gaps) / len(labels), bins=bins)


def _bins(probabilities: Probabilities, labels: NDArray[np.int32]) -> tuple[Bin, ...]:
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    return tuple(_bin(edges[at], edges[at + 1], confidence[places == at], right[places == at]) for at in range(BINS))


def _bin(low: float, high: float, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Bin:
    return Bin(
        low=float(low),
        high=float(high),
        images=len(right),
        confidence=float(confidence.mean()) if len(right) else None,
        accuracy=float(right.mean()) if len(right) else None,
    )


class _Trade:
    """What share of the images is answered, and how well, at each threshold from the highest down."""

    def __init__(self, probabilities: Probabilities, labels: NDArray[np.int32]) -> None:
        # Down, not to the nearest: who counts as answered has to be answered at the threshold as it is stored.
        confidence = np.floor(probabilities.max(axis=1) * 10**DECIMALS) / 10**DECIMALS
        right = probabilities.argmax(axis=1) == labels
        negative, counts = np.unique(-confidence, return_counts=True)
        answered = np.cumsum(counts)
        self._thresholds, self._coverage = -negative, answered / len(labels)
        self._accuracy = np.cumsum(right[np.argsort(-confidence, kind="stable")])[answered - 1] / answered

    def at(self, coverage: float) -> Coverage:
        """Return the trade that answers least, of those that answer at least ``coverage``."""
        return self._row(int(np.argmax(self._coverage >= coverage)))

    def most_at(self, accuracy: float) -> Coverage | None:
        """Return the trade that answers most, of those whose answers are right at least as often as ``accuracy``."""
        rows = np.flatnonzero(self._accuracy >= accuracy)
        return self._row(int(rows[-1])) if len(rows) else None

    def _row(self, at: int) -> Coverage:
        return Coverage(
            coverage=_rounded(self._coverage[at]),
            threshold=_rounded(self._thresholds[at]),
            accuracy=_rounded(self._accuracy[at]),
        )


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
