"""How good a classifier is, where it fails, and how far it can be trusted: every figure from its logits alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError

from .calibration import Abstaining, Reliability, abstaining, reliability
from .intervals import Interval, wilson
from .probability import require_finite, softmax

MOST_PAIRS, MOST_ERRORS = 10, 24
"""Confused pairs and confident errors that are told."""


@dataclass(frozen=True, kw_only=True)
class ClassMeasures:
    """How well one class is told from the others. A figure is nothing where there is nothing to divide by."""

    label: str
    images: int
    """Of this class."""
    predicted: int
    """Taken for this class."""
    precision: float | None
    """Share of those taken for it that are of it; nothing where none was taken for it."""
    recall: float | None
    """Share of those of it that are taken for it; nothing where there are none of it."""
    f1: float | None
    """Harmonic mean of the two; nothing where there is neither an image nor a prediction of it."""


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Images of one class that are taken for another."""

    label: str
    predicted: str
    images: int
    share: float
    """Of the images of ``label``, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class ConfidentError:
    """An image that is taken for another class with much confidence."""

    index: int
    """In the split."""
    label: str
    predicted: str
    probability: float
    """Of ``predicted``, 0 to 1, at the fitted temperature where there is one."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that is told of a classifier from one look at labelled images."""

    images: int
    labels: tuple[str, ...]
    accuracy: float
    """Fraction whose largest logit is the label's, 0 to 1."""
    accuracy_interval: Interval
    """Wilson, 95 %."""
    top2_accuracy: float
    """Fraction whose label is among the two largest logits, 0 to 1."""
    loss: float
    """Mean cross-entropy, nats."""
    classes: tuple[ClassMeasures, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Number of images, a row per true class, a column per predicted class."""
    reliability: Reliability
    """Of the probabilities as they are."""
    calibrated: Reliability | None
    """Of the probabilities at the temperature that was fitted on held-out images."""
    abstaining: Abstaining | None
    """What is left when only confident answers are given, by the threshold that was fitted on held-out images."""
    confused_pairs: tuple[ConfusedPair, ...]
    """The most frequent first."""
    confident_errors: tuple[ConfidentError, ...]
    """The most confident first."""

    def to_json(self) -> dict[str, Any]:
        """Return every figure as JSON values."""
        return asdict(self)


def measure(
    logits: NDArray[np.float32],
    labels: NDArray[np.int32],
    names: Sequence[str],
    temperature: float | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """Return everything that logits (n, classes) against labels (n,) tell of a classifier.

    ``names`` are the classes in the order of the logits. ``temperature``, and the ``threshold`` of confidence from
    which on an answer is given, were fitted on other images. A class without images, or one image alone, is measured
    honestly: figures that would divide by nothing are ``None``. Raises ``DataError`` for no images, for logits that are
    not finite, and where shapes and classes do not fit.
    """
    _require_measurable(logits, labels, names)
    from sklearn.metrics import confusion_matrix

    predicted, classes = logits.argmax(axis=1), np.arange(len(names))
    confusion = confusion_matrix(labels, predicted, labels=classes)
    as_is = reliability(logits, labels)
    hits = int(np.trace(confusion))
    return Evaluation(
        images=len(labels),
        labels=tuple(names),
        accuracy=hits / len(labels),
        accuracy_interval=wilson(hits, len(labels)),
        top2_accuracy=_top2(logits, labels),
        loss=as_is.loss,
        classes=_classes(confusion, names),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        reliability=as_is,
        calibrated=None if temperature is None else reliability(logits, labels, temperature),
        abstaining=None if threshold is None else abstaining(logits, labels, temperature or 1.0, threshold),
        confused_pairs=_confused_pairs(confusion, names),
        confident_errors=_confident_errors(logits, labels, names, temperature or 1.0),
    )


def _require_measurable(logits: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]) -> None:
    if not len(labels):
        raise DataError("there are 0 images to score; expected at least 1: add images to the split")
    if logits.shape != (len(labels), len(names)):
        raise DataError(
            f"the logits have shape {logits.shape}; expected {(len(labels), len(names))}, a row per image and a column "
            "per class: use the model's own labels"
        )
    require_finite(logits)


def _top2(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    # Of equal logits, which few bits make often, the first counts more, as it does in argmax.
    best = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    return float(np.mean((best == labels[:, None]).any(axis=1)))


def _classes(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ClassMeasures, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    # scikit-learn counts the images itself: the matrix is unfolded into one pair of labels per cell.
    true, predicted = (axis.ravel() for axis in np.indices(confusion.shape))
    columns = precision_recall_fscore_support(
        true, predicted, labels=np.arange(len(names)), sample_weight=confusion.ravel(), zero_division=np.nan
    )[:3]
    return tuple(
        ClassMeasures(
            label=name,
            images=int(confusion[at].sum()),
            predicted=int(confusion[:, at].sum()),
            precision=_known(columns[0][at]),
            recall=_known(columns[1][at]),
            f1=_known(columns[2][at]),
        )
        for at, name in enumerate(names)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _confused_pairs(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ConfusedPair, ...]:
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors.ravel(), kind="stable")[:MOST_PAIRS]
    cells = [divmod(int(at), len(names)) for at in order if errors.flat[at]]
    return tuple(
        ConfusedPair(
            label=names[row],
            predicted=names[column],
            images=int(errors[row, column]),
            share=float(errors[row, column] / confusion[row].sum()),
        )
        for row, column in cells
    )


def _confident_errors(
    logits: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str], temperature: float
) -> tuple[ConfidentError, ...]:
    probabilities, predicted = softmax(logits, temperature), logits.argmax(axis=1)
    confidence = np.where(predicted == labels, -1.0, probabilities.max(axis=1))
    order = np.argsort(-confidence, kind="stable")[:MOST_ERRORS]
    return tuple(
        ConfidentError(
            index=int(at), label=names[labels[at]], predicted=names[predicted[at]], probability=float(confidence[at])
        )
        for at in order
        if confidence[at] >= 0
    )
