"""Classification metrics from logits and labels: accuracy, per-class metrics, calibration and errors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import numpy_defaults

from .calibration import Reliability, reliability
from .scoring import require_finite, softmax
from .selective_prediction import SelectivePrediction, selective_prediction
from .significance import Interval, wilson

MOST_PAIRS, MOST_ERRORS = 10, 24
"""Maximum number of confused pairs and of confident errors."""


@dataclass(frozen=True, kw_only=True)
class ClassMeasures:
    """Precision, recall and F1 of one class; each is None if it is undefined."""

    label: str
    images: int
    predicted: int
    """Number of predictions of the class."""
    precision: float | None
    """Share of the predictions that are correct, 0 to 1, or None if the class is never predicted."""
    recall: float | None
    """Share of the images that are predicted correctly, 0 to 1, or None if there are none."""
    f1: float | None
    """Harmonic mean of precision and recall, 0 to 1, or None without images and predictions."""


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """The images of one class for which another class is predicted."""

    label: str
    predicted: str
    images: int
    share: float
    """Share of the images of ``label``, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class ConfidentError:
    """A wrong prediction with high confidence."""

    index: int
    """Position in the split."""
    label: str
    predicted: str
    file: str | None
    """Name of the image file in the folder of the dataset, or None if it is not a folder."""
    probability: float
    """Probability of ``predicted``, 0 to 1, after temperature scaling if there is a temperature."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All metrics of a classifier on labeled images."""

    images: int
    labels: tuple[str, ...]
    accuracy: float
    """Fraction of correct predictions, 0 to 1."""
    accuracy_interval: Interval
    """95% Wilson interval of the accuracy."""
    top2_accuracy: float
    """Fraction of images whose label is among the two largest logits, 0 to 1."""
    loss: float
    """Mean cross-entropy, nats."""
    classes: tuple[ClassMeasures, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Numbers of images; one row per true class, one column per predicted class."""
    reliability: Reliability
    calibrated: Reliability | None
    """Calibration after temperature scaling, or None without a temperature."""
    abstaining: SelectivePrediction | None
    """Coverage and accuracy at the confidence threshold, or None without a threshold."""
    confused_pairs: tuple[ConfusedPair, ...]
    """Confused pairs, most frequent first."""
    confident_errors: tuple[ConfidentError, ...]
    """Wrong predictions, most confident first."""


@numpy_defaults()
def measure(
    logits: NDArray[np.float32],
    labels: NDArray[np.int32],
    names: Sequence[str],
    temperature: float | None = None,
    threshold: float | None = None,
    files: Sequence[str] = (),
) -> Evaluation:
    """Compute all metrics from logits (n, classes) and labels (n,).

    ``names`` are the class names in the order of the logits. ``temperature`` and the confidence ``threshold`` of
    selective prediction have to be fitted on other images. ``files`` are the names of the image files, if there are
    any. Undefined metrics, such as the recall of a class without images, are None. Raises ``DataError`` if logits are
    not finite.
    """
    require_finite(logits)
    from sklearn.metrics import confusion_matrix

    predicted, classes = logits.argmax(axis=1), np.arange(len(names))
    confusion = confusion_matrix(labels, predicted, labels=classes)
    uncalibrated = reliability(logits, labels)
    hits = int(np.trace(confusion))
    # A stable sort ranks the first of equal logits higher, as argmax does. Quantized models have many equal logits.
    best = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    return Evaluation(
        images=len(labels),
        labels=tuple(names),
        accuracy=hits / len(labels),
        accuracy_interval=wilson(hits, len(labels)),
        top2_accuracy=float(np.mean((best == labels[:, None]).any(axis=1))),
        loss=uncalibrated.loss,
        classes=tuple(_classes(confusion, names)),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        reliability=uncalibrated,
        calibrated=None if temperature is None else reliability(logits, labels, temperature),
        abstaining=None if threshold is None else selective_prediction(logits, labels, temperature or 1.0, threshold),
        confused_pairs=_confused_pairs(confusion, names),
        confident_errors=_confident_errors(logits, labels, names, temperature or 1.0, files),
    )


def _classes(confusion: NDArray[np.int64], names: Sequence[str]) -> Iterator[ClassMeasures]:
    for name, hits, images, predicted in zip(
        names, np.diag(confusion).tolist(), confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True
    ):
        yield ClassMeasures(
            label=name,
            images=images,
            predicted=predicted,
            precision=hits / predicted if predicted else None,
            recall=hits / images if images else None,
            f1=2 * hits / (images + predicted) if images + predicted else None,
        )


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
    logits: NDArray[np.float32],
    labels: NDArray[np.int32],
    names: Sequence[str],
    temperature: float,
    files: Sequence[str],
) -> tuple[ConfidentError, ...]:
    probabilities, predicted = softmax(logits, temperature), logits.argmax(axis=1)
    confidence = np.where(predicted == labels, -1.0, probabilities.max(axis=1))
    order = np.argsort(-confidence, kind="stable")[:MOST_ERRORS]
    return tuple(
        ConfidentError(
            index=int(at),
            label=names[labels[at]],
            predicted=names[predicted[at]],
            file=files[at] if files else None,
            probability=float(confidence[at]),
        )
        for at in order
        if confidence[at] >= 0
    )
