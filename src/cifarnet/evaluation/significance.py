"""Two classifiers on the same images: whether one is better, or only luckier."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError

from .intervals import CONFIDENCE, Interval, wilson
from .probability import require_finite


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An image that two classifiers take for different classes."""

    index: int
    """In the split."""
    label: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """What two classifiers say of the same images."""

    images: int
    first_accuracy: float
    second_accuracy: float
    agreement: float
    """Share of the images that both take for the same class, 0 to 1."""
    agreement_interval: Interval
    only_first_right: int
    only_second_right: int
    accuracy_difference: float
    """Of the second over the first, -1 to 1."""
    difference_interval: Interval
    """Of the difference, 95 %."""
    p_value: float
    """McNemar's exact test: how often chance alone would tell them apart at least as much, 0 to 1."""
    differences: tuple[Difference, ...]
    """Every image that they take for different classes, in the order of the split."""

    def to_json(self) -> dict[str, Any]:
        """Return every figure as JSON values."""
        return asdict(self)


def compare(
    first: NDArray[np.float32], second: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]
) -> PairedComparison:
    """Compare two classifiers by their logits, each (n, classes), of the same images with ``labels`` (n,).

    McNemar 1947, in the exact form: the images that only one of the two gets right fall to either side like a coin.
    Raises ``DataError`` where the shapes differ, there are no images, or logits are not finite.
    """
    if not first.shape == second.shape == (len(labels), len(names)) or not len(labels):
        raise DataError(
            f"the logits have shapes {first.shape} and {second.shape}; expected {(len(labels), len(names))} of both, "
            "at least one image: compare models of the same classes on the same images"
        )
    require_finite(first)
    require_finite(second)
    ours, theirs = (logits.argmax(axis=1) for logits in (first, second))
    only_first, only_second = (int(np.sum((a == labels) & (b != labels))) for a, b in ((ours, theirs), (theirs, ours)))
    return PairedComparison(
        images=len(labels),
        first_accuracy=float(np.mean(ours == labels)),
        second_accuracy=float(np.mean(theirs == labels)),
        agreement=float(np.mean(ours == theirs)),
        agreement_interval=wilson(int(np.sum(ours == theirs)), len(labels)),
        only_first_right=only_first,
        only_second_right=only_second,
        accuracy_difference=(only_second - only_first) / len(labels),
        difference_interval=_difference_interval(only_first, only_second, len(labels)),
        p_value=_mcnemar(only_first, only_second),
        differences=_differences(ours, theirs, labels, names),
    )


def _mcnemar(only_first: int, only_second: int) -> float:
    from scipy.stats import binomtest

    trials = only_first + only_second
    return float(binomtest(only_first, trials).pvalue) if trials else 1.0


def _difference_interval(only_first: int, only_second: int, images: int) -> Interval:
    """Return the interval of a difference of paired fractions (Agresti and Min 2005, Wald after adding half a pair)."""
    from scipy.stats import norm

    # Half an observation in each of the four cells keeps the interval from shrinking to nothing where none differ.
    total, ahead, behind = images + 2, only_second + 0.5, only_first + 0.5
    difference = (ahead - behind) / total
    spread = math.sqrt(ahead + behind - (ahead - behind) ** 2 / total) / total
    reach = float(norm.ppf(0.5 + CONFIDENCE / 2)) * spread
    return Interval(max(-1.0, difference - reach), min(1.0, difference + reach))


def _differences(
    ours: NDArray[np.intp], theirs: NDArray[np.intp], labels: NDArray[np.int32], names: Sequence[str]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(index=int(at), label=names[labels[at]], first=names[ours[at]], second=names[theirs[at]])
        for at in np.flatnonzero(ours != theirs)
    )
