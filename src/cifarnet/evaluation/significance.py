"""Confidence intervals, and a significance test between two classifiers on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scoring import require_finite

CONFIDENCE = 0.95
"""Confidence level of all intervals."""


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An image for which two classifiers predict different classes."""

    index: int
    """Position in the split."""
    label: str
    file: str | None
    """Name of the image file in the folder of the dataset, or None if it is not a folder."""
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Comparison of two classifiers on the same images."""

    images: int
    first_accuracy: float
    second_accuracy: float
    agreement: float
    """Share of the images with the same prediction, 0 to 1."""
    agreement_interval: Interval
    only_first_right: int
    only_second_right: int
    accuracy_difference: float
    """Accuracy of the second classifier minus that of the first, -1 to 1."""
    difference_interval: Interval
    p_value: float
    """Two-sided p-value of McNemar's exact test, 0 to 1."""
    differences: tuple[Difference, ...]
    """All images with different predictions, in the order of the split."""


def wilson(hits: int, trials: int) -> Interval:
    """Return the Wilson score interval of the fraction ``hits`` of ``trials``, at least 1.

    Wilson 1927. Unlike the normal approximation it stays within 0 to 1, even for a single trial.
    """
    from scipy.stats import binomtest

    interval = binomtest(hits, trials).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def compare(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    labels: NDArray[np.int32],
    names: Sequence[str],
    files: Sequence[str] = (),
) -> PairedComparison:
    """Compare two classifiers by their logits, (n, classes) each, of the same images with ``labels`` (n,).

    ``files`` are the names of the image files, if there are any. The test is McNemar's (1947) in the exact form. Raises
    ``DataError`` if logits are not finite.
    """
    from scipy.stats import binomtest

    require_finite(first)
    require_finite(second)
    first_class, second_class = (logits.argmax(axis=1) for logits in (first, second))
    only_first = int(np.sum((first_class == labels) & (second_class != labels)))
    only_second = int(np.sum((second_class == labels) & (first_class != labels)))
    unequal = only_first + only_second
    return PairedComparison(
        images=len(labels),
        first_accuracy=float(np.mean(first_class == labels)),
        second_accuracy=float(np.mean(second_class == labels)),
        agreement=float(np.mean(first_class == second_class)),
        agreement_interval=wilson(int(np.sum(first_class == second_class)), len(labels)),
        only_first_right=only_first,
        only_second_right=only_second,
        accuracy_difference=(only_second - only_first) / len(labels),
        difference_interval=_difference_interval(only_first, only_second, len(labels)),
        p_value=float(binomtest(only_first, unequal).pvalue) if unequal else 1.0,
        differences=_differences(first_class, second_class, labels, names, files),
    )


def _difference_interval(only_first: int, only_second: int, images: int) -> Interval:
    """Return the Wald interval of a difference of paired fractions, with 0.5 added per cell (Agresti and Min 2005)."""
    from scipy.stats import norm

    # Adding 0.5 to each of the four cells keeps the interval from having width 0 if no predictions differ.
    total, better, worse = images + 2, only_second + 0.5, only_first + 0.5
    difference = (better - worse) / total
    standard_error = math.sqrt(better + worse - (better - worse) ** 2 / total) / total
    margin = float(norm.ppf(0.5 + CONFIDENCE / 2)) * standard_error
    return Interval(max(-1.0, difference - margin), min(1.0, difference + margin))


def _differences(
    first_class: NDArray[np.intp],
    second_class: NDArray[np.intp],
    labels: NDArray[np.int32],
    names: Sequence[str],
    files: Sequence[str],
) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            index=int(at),
            label=names[labels[at]],
            file=files[int(at)] if files else None,
            first=names[first_class[at]],
            second=names[second_class[at]],
        )
        for at in np.flatnonzero(first_class != second_class)
    )
