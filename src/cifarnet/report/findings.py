"""One-sentence summaries of the parts of a report."""

import math

from cifarnet.errors import counted
from cifarnet.evaluation.metrics import ClassMeasures, Evaluation
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run.record import TARGET_ACCURACY, Calibration

from .evidence import Evidence, Parity
from .words import duration, millions, percent, short, spaced


def summary(evidence: Evidence, evaluation: Evaluation) -> str:
    """Return network, training data and backend, and the classes with the highest and lowest recall."""
    record = evidence.record
    tta = ", evaluated with test-time augmentation" if evidence.views > 1 else ""
    sentence = (
        f"A convolutional network with {millions(evidence.record.model.parameters)} parameters and "
        f"{len(evaluation.labels)} classes, trained on {record.hold_out.train:,} images of {short(record.data.name)} "
        f"with {record.backend}{tta}."
    )
    known = _by_recall(evaluation)
    if len(known) < 2 or known[0].recall == known[-1].recall:
        return sentence
    return f"{sentence} Best class: {_with_ties(known[-1], known)}; worst: {_with_ties(known[0], known)}."


def curves(evidence: Evidence) -> str:
    """Return the best epoch and why training stopped."""
    best, last = evidence.record.best_epoch, len(evidence.history)
    if not last:
        return "The run has lost history.csv, its results of each epoch." if best else "No epoch has finished yet."
    why = f"training stopped: {evidence.record.ending}" if evidence.record.why_stopped else evidence.record.ending
    if not best:
        return f"No epoch had a finite loss; after epoch {last} {why}."
    lowest = f"The validation loss was lowest{_tolerance(evidence, best)} after epoch {best}; after epoch {last} {why}."
    return lowest + _losses(evidence)


def _losses(evidence: Evidence) -> str:
    """Return what the training loss has that the validation loss has not, and which loss both are."""
    record = evidence.record
    names = ["label smoothing"] if record.training.get("label_smoothing") else []
    names += ["class weights"] if record.train.class_weights != "none" else []
    note = f" The training loss includes {' and '.join(names)}." if names else ""
    if record.custom.loss is None:
        return note
    return f" Both losses are {record.custom.loss}, not the cross-entropy of the other figures.{note}"


def _tolerance(evidence: Evidence, best: int) -> str:
    """Return the tolerance of the best epoch: a later one whose loss is lower by ``min_delta`` at most is not best."""
    losses = [row.validation_loss for row in evidence.history if math.isfinite(row.validation_loss)]
    at_best = next((row.validation_loss for row in evidence.history if row.epoch == best), -math.inf)
    is_lowest = at_best <= min(losses, default=math.inf)
    least = evidence.record.train.min_delta
    tolerance = f"{least:g} nats" if evidence.record.custom.loss is None else f"{100 * least:g}%"
    return "" if is_lowest else f", to within {tolerance},"


def classes(evaluation: Evaluation) -> str:
    """Return the highest and the lowest recall of a class."""
    known = _by_recall(evaluation)
    if not known:
        return "There are no images of any class."
    worst, best = known[0], known[-1]
    return (
        f"The recall is highest for {_with_ties(best, known)} ({percent(best.recall)}) and lowest for "
        f"{_with_ties(worst, known)} ({percent(worst.recall)})."
    )


def confusion(evaluation: Evaluation) -> str:
    """Return the most frequent confusion."""
    if not evaluation.confused_pairs:
        return "Every prediction is correct."
    pair = evaluation.confused_pairs[0]
    wrong = evaluation.images - sum(row[at] for at, row in enumerate(evaluation.confusion))
    return (
        f"The most frequent of {wrong:,} errors is {short(pair.label)} predicted as {short(pair.predicted)}: "
        f"{pair.images:,} times, {percent(pair.share)} of that class."
    )


def reliability(evaluation: Evaluation) -> str:
    """Return the expected calibration error before and after temperature scaling."""
    uncalibrated, calibrated = evaluation.reliability, evaluation.calibrated
    sentence = f"The expected calibration error is {100 * uncalibrated.ece:.1f} points"
    if calibrated is None:
        return f"{sentence}."
    return f"{sentence}, {100 * calibrated.ece:.1f} after scaling with temperature {calibrated.temperature:.3g}."


def selective_prediction(calibration: Calibration) -> str:
    """Return coverage and accuracy at the stored threshold."""
    if calibration.abstention is None:
        return f"No confidence threshold reaches an accuracy of {percent(TARGET_ACCURACY, 0)}."
    found = calibration.abstention
    return (
        f"With a confidence threshold of {percent(found.threshold)}, the coverage is {percent(found.coverage)} of the "
        f"images, with an accuracy of {percent(found.accuracy)}."
    )


def robustness(found: Robustness) -> str:
    """Return mean accuracy and error on corrupted images, and the worst corruptions."""
    worst = ", ".join(map(spaced, found.worst))
    return (
        f"The mean accuracy on corrupted images is {percent(1 - found.mean_corruption_error)} (mean corruption error "
        f"{percent(found.mean_corruption_error)}), on clean ones {percent(found.clean.accuracy)}. Worst: {worst}."
    )


def parity(found: Parity) -> str:
    """Return the result of the parity check of the exported file."""
    changed, aside = found.checks[0].changed_classes, ""
    if found.tolerances.margin:
        aside = f", except near ties with a top-2 margin of at most {found.tolerances.margin:g}"
    tta = " Both apply test-time augmentation." if found.views > 1 else ""
    if changed:
        sentence = f"The {found.precision} file predicts another class for {changed:,} of {found.images:,} test images"
    else:
        sentence = f"The file predicts the same class as the trained network for all {found.images:,} test images"
    return f"{sentence}{aside}.{tta}"


def environment(evidence: Evidence) -> str:
    """Return duration and processor of the training."""
    record = evidence.record
    machine, elapsed = record.machine, record.elapsed_s
    where = f"{machine.cores or 'all'} cores of {short(machine.processor)}"
    return f"Trained in {duration(elapsed)} on {where}." if elapsed else f"Trained on {where}."


def _by_recall(evaluation: Evaluation) -> list[ClassMeasures]:
    return sorted((each for each in evaluation.classes if each.recall is not None), key=lambda each: each.recall or 0)


def _with_ties(each: ClassMeasures, known: list[ClassMeasures]) -> str:
    """Return the name of a class, and how many others have the same recall."""
    others = sum(other.recall == each.recall for other in known) - 1
    return short(each.label) + (f" and {counted(others, 'other class', 'other classes')}" if others else "")
