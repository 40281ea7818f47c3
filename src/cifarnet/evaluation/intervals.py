"""Between what and what a fraction lies that was counted on a few images."""

from dataclasses import dataclass

CONFIDENCE = 0.95
"""Of every interval here."""


@dataclass(frozen=True)
class Interval:
    """A range that holds the true value in 95 of 100 samples."""

    low: float
    high: float


def wilson(hits: int, trials: int) -> Interval:
    """Return the Wilson score interval of the fraction ``hits`` of ``trials``, at least 1.

    Wilson 1927; unlike the normal approximation it stays within 0 to 1, on one image too.
    """
    from scipy.stats import binomtest

    found = binomtest(hits, trials).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))
