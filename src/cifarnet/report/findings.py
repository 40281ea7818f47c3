"""What each part of a report comes down to, in one sentence."""

import math

from cifarnet.evaluation.metrics import ClassMeasures, Evaluation
from cifarnet.evaluation.robustness import Robustness
from cifarnet.run.record import TARGET_ACCURACY, Calibration

from .evidence import Evidence, Parity
from .words import duration, millions, percent, short, spaced

WHY_STOPPED = {
    None: "training had not come to its end",
    "patience": "training stopped, since it had not fallen for long enough",
    "epochs": "training had come to its last epoch",
    "interrupted": "training was interrupted",
    "nan": "training stopped, since the loss was no number any more",
    "time limit": "training reached its time limit",
}


def summary(evidence: Evidence, evaluation: Evaluation) -> str:
    """Return what the network is and how good it is."""
    record = evidence.record
    sentence = (
        f"A convolutional network of {millions(evidence.job.model.parameters)} parameters, trained on "
        f"{record.hold_out.train:,} images of {short(record.data.name)} with {record.backend}, "
        f"tells {len(evaluation.labels)} classes apart"
    )
    if evidence.flip:
        sentence += ", by the mean over each image and its mirror image"
    known = _by_recall(evaluation)
    if len(known) < 2 or known[0].recall == known[-1].recall:
        return f"{sentence}."
    return f"{sentence}: {short(known[-1].label)} best, {short(known[0].label)} worst."


def curves(evidence: Evidence) -> str:
    """Return when the network was best and why training ended."""
    best, last = evidence.record.best_epoch, len(evidence.history)
    if not last:
        return "No epoch has ended yet."
    why = WHY_STOPPED[evidence.record.why_stopped]
    if not best:
        return f"No epoch had a finite loss; after epoch {last} {why}."
    smoothed = " The training loss includes label smoothing." if evidence.job.train.label_smoothing else ""
    least = f"The validation loss was least{_to_within(evidence, best)} after epoch {best}; after epoch {last} {why}."
    return least + smoothed


def _to_within(evidence: Evidence, best: int) -> str:
    """Return what a later epoch may have been better by: a fall of ``min_delta`` at most does not make it the best."""
    losses = [row.validation_loss for row in evidence.history if math.isfinite(row.validation_loss)]
    at_best = next((row.validation_loss for row in evidence.history if row.epoch == best), -math.inf)
    is_least = at_best <= min(losses, default=math.inf)
    return "" if is_least else f", to within {evidence.job.train.min_delta:g} nats,"


def classes(evaluation: Evaluation) -> str:
    """Return the best and the worst class."""
    known = _by_recall(evaluation)
    if not known:
        return "There are no images of any class."
    worst, best = known[0], known[-1]
    return (
        f"Of the images of {short(best.label)} {percent(best.recall)} are classified correctly, "
        f"of those of {short(worst.label)} {percent(worst.recall)}."
    )


def confusion(evaluation: Evaluation) -> str:
    """Return the commonest mistake."""
    if not evaluation.confused_pairs:
        return "No image was taken for another class."
    pair = evaluation.confused_pairs[0]
    wrong = evaluation.images - sum(row[at] for at, row in enumerate(evaluation.confusion))
    return (
        f"The commonest of {wrong:,} mistakes is to take {short(pair.label)} for {short(pair.predicted)}: "
        f"{pair.images:,} times, {percent(pair.share)} of that class."
    )


def reliability(evaluation: Evaluation) -> str:
    """Return how far the probabilities are from the truth."""
    as_is, calibrated = evaluation.reliability, evaluation.calibrated
    sentence = f"Confidence and accuracy are {100 * as_is.ece:.1f} points apart on average"
    if calibrated is None:
        return f"{sentence}."
    way = "sharpened" if calibrated.temperature < 1 else "softened"
    return f"{sentence}, {100 * calibrated.ece:.1f} once {way} by the temperature {calibrated.temperature:.3g}."


def abstention(calibration: Calibration) -> str:
    """Return what is gained by answering only where the network is sure."""
    if calibration.abstention is None:
        return f"No threshold makes {percent(TARGET_ACCURACY, 0)} of the answers right."
    found = calibration.abstention
    return (
        f"If it answers only with a confidence of {percent(found.threshold)} or more, it answers "
        f"{percent(found.coverage)} of the images, and {percent(found.accuracy)} of its answers are right."
    )


def robustness(found: Robustness) -> str:
    """Return mean accuracy and error on corrupted images, and the worst corruptions."""
    worst = ", ".join(spaced(family.name) for family in found.worst)
    return (
        f"The mean accuracy on corrupted images is {percent(1 - found.mean_corruption_error)} (mean corruption error "
        f"{percent(found.mean_corruption_error)}), on clean ones {percent(found.clean.accuracy)}. Worst: {worst}."
    )


def parity(found: Parity) -> str:
    """Return what was proven of the exported file."""
    changed, aside = found.checks[0].changed_classes, ""
    if found.margin:
        aside = f", toss-ups aside: those whose two best probabilities are at most {found.margin:g} apart"
    both = " Both take the mean over each image and its mirror image." if found.flip else ""
    if changed:
        said = f"The file in {found.precision} gives {changed:,} of {found.images:,} test images another class"
    else:
        said = f"The file gives every one of {found.images:,} test images the class that the trained network gives it"
    return f"{said}{aside}.{both}"


def environment(evidence: Evidence) -> str:
    """Return what it took."""
    record = evidence.record
    machine, elapsed = record.machine, record.elapsed_s
    where = f"{machine.cores or 'all'} cores of {short(machine.processor)}"
    return f"Trained in {duration(elapsed)} on {where}." if elapsed else f"Trained on {where}."


def _by_recall(evaluation: Evaluation) -> list[ClassMeasures]:
    """Return the classes that there are images of, the worst first."""
    return sorted((each for each in evaluation.classes if each.recall is not None), key=lambda each: each.recall or 0)
