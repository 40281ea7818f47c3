"""How alike trainings came out: each two with one seed, each backend over the seeds, and backends against seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cifarnet.evaluation import compare

from .values import Answers, Pair, Spread, Summary, Training

SIGNIFICANT = 0.05
"""Below this probability of chance a difference counts as one (Fisher 1925's convention)."""
ROUNDING = 1e-20
"""Variance that means leave by their rounding, at most: it is some 1e-32, and one image of a million makes 1e-13."""


def pair(first: Training, second: Training, answers: Mapping[str, Answers], names: Sequence[str]) -> Pair:
    """Return how two trainings with the same seed differ; ``answers`` are theirs by backend."""
    ours, theirs = answers[first.backend], answers[second.backend]
    found = compare(ours.logits, theirs.logits, ours.labels, names)
    return Pair(
        first=first.backend,
        second=second.backend,
        seed=first.seed,
        first_loss_difference=abs(first.first_loss - second.first_loss),
        gradient_difference=gradient_difference(ours.gradients, theirs.gradients),
        curve_difference=max(
            abs(a.train_loss - b.train_loss) for a, b in zip(first.history, second.history, strict=False)
        ),
        agreement=found.agreement,
        agreement_interval=found.agreement_interval,
        accuracy_difference=found.accuracy_difference,
        difference_interval=found.difference_interval,
        p_value=found.p_value,
    )


def gradient_difference(first: Mapping[str, NDArray[np.float32]], second: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the largest difference of an element over the largest element of its array; of all arrays the worst.

    0 where both are nothing but zeros, and infinity where one is and the other is not.
    """
    return max(_relative(first[path], second[path]) for path in first)


def _relative(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    difference = float(np.abs(first - second).max())
    scale = min(float(np.abs(first).max()), float(np.abs(second).max()))
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf


def pairs(trainings: Sequence[Training], answers: Mapping[str, Answers], names: Sequence[str]) -> list[Pair]:
    """Return every two of the trainings, which share one seed."""
    return [pair(one, other, answers, names) for one, other in combinations(trainings, 2)]


def summary(trainings: Sequence[Training]) -> Summary:
    """Return one backend's trainings, ordered by seed, as means and standard deviations."""
    test, validation = ([getattr(each, part).accuracy for each in trainings] for part in ("test", "validation"))
    memory = [each.peak_memory_bytes for each in trainings if each.peak_memory_bytes is not None]
    return Summary(
        backend=trainings[0].backend,
        test_mean=statistics.fmean(test),
        test_sd=_sd(test),
        validation_mean=statistics.fmean(validation),
        validation_sd=_sd(validation),
        seconds_per_epoch=statistics.median(each.seconds_per_epoch for each in trainings),
        peak_memory_bytes=max(memory, default=None),
        first_loss=trainings[0].first_loss,
    )


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def spread(accuracies: NDArray[np.float64]) -> Spread:
    """Return whether backends differ more than seeds do, from test accuracies (backends, seeds), two backends or more.

    The test is an analysis of variance in randomised blocks (Fisher 1935, The Design of Experiments): a seed gives
    every backend the same start, order and masks, so what it brings along is taken out. For two backends it is the
    paired t-test, whose t squared is this F. With fewer than two seeds there is nothing to judge by.
    """
    backend_sd = float(accuracies.mean(axis=1).std(ddof=1))
    if accuracies.shape[1] < 2:
        sentence = "One seed cannot tell whether the backends differ more than the seeds do: compare with --seeds 3."
        return Spread(backend_sd=backend_sd, seed_sd=None, statistic=None, p_value=None, sentence=sentence)
    seed_sd = float(accuracies.mean(axis=0).std(ddof=1))
    statistic, p_value = _blocked_variance(accuracies)
    return Spread(
        backend_sd=backend_sd,
        seed_sd=seed_sd,
        statistic=statistic if math.isfinite(statistic) else None,
        p_value=p_value,
        sentence=_sentence(backend_sd, seed_sd, p_value),
    )


def _blocked_variance(accuracies: NDArray[np.float64]) -> tuple[float, float]:
    """Return F and p of the rows' means, the columns' means taken out."""
    from scipy.stats import f

    rows, columns = accuracies.shape
    by_row, by_column = accuracies.mean(axis=1, keepdims=True), accuracies.mean(axis=0, keepdims=True)
    rest = accuracies - by_row - by_column + accuracies.mean()
    between = columns * float(np.square(by_row - accuracies.mean()).sum()) / (rows - 1)
    within = float(np.square(rest).sum()) / ((rows - 1) * (columns - 1))
    if within < ROUNDING:  # every seed tells the same
        return (math.inf, 0.0) if between > ROUNDING else (0.0, 1.0)
    statistic = between / within
    return statistic, float(f.sf(statistic, rows - 1, (rows - 1) * (columns - 1)))


def _sentence(backend_sd: float, seed_sd: float, p_value: float) -> str:
    facts = (
        f"standard deviation of the test accuracy {100 * backend_sd:.2f} points between backends, "
        f"{100 * seed_sd:.2f} between seeds; p = {p_value:.2g}, analysis of variance with the seed as block"
    )
    if p_value >= SIGNIFICANT:
        return f"The backends do not differ beyond chance ({facts})."
    more = "more than" if backend_sd > seed_sd else "but less than"
    return f"The backends differ beyond chance, {more} the seeds do ({facts})."
