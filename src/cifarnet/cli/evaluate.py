"""``cifarnet evaluate``: how good a classifier is, where it fails, how far it can be trusted; or two side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.contract import printable
from cifarnet.errors import DataError, UsageError

from .display import download_bar, out, say, say_not_known, shortened
from .options import DATA, SUBJECT, BackendOption, JsonOption, RunsOption, filled
from .tables import percent, table

if TYPE_CHECKING:
    from cifarnet.contract import Dataset, Split
    from cifarnet.data import Progress
    from cifarnet.evaluation.calibration import Reliability, SelectivePrediction
    from cifarnet.evaluation.metrics import Evaluation
    from cifarnet.evaluation.significance import PairedComparison
    from cifarnet.evaluation.target import Subject

MOST_COLUMNS = 12
"""Classes of which the confusion matrix fits a terminal; of more it is in the report and in --json."""
MOST_LINES = 8
"""Of a list whose whole is in --json."""
SHORT = 5
"""Letters of a class name over a column of the confusion matrix."""


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|MODEL.onnx] [RUN|MODEL.onnx]",
            help="The latest run by default.",
            show_default=False,
            parser=filled("RUN", SUBJECT),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the data set is, if it was moved; its test images are scored.",
            show_default=False,
            parser=filled("--data", DATA),
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Score every image of this folder of class folders.",
            show_default=False,
            parser=filled("--images", "a folder of class folders"),
        ),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Take the mean over each image and its mirror image: slower, often better.")
    ] = False,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Score a run on its backend, or a model file in onnxruntime; of two, say whether one is better.

    The figures: accuracy with a 95 % interval, top-2, log loss, precision, recall and F1 of each class, the confusion
    matrix, how far the probabilities can be trusted, the pairs most often confused and the most confident errors.
    """
    _require_sense(models, data, images)
    from cifarnet.evaluation.target import FlippedSubject, open_subject

    subjects = [open_subject(_target(named, runs), runs, backend) for named in models or (None,)]
    if flip:
        subjects = [subject if subject.flip else FlippedSubject(subject) for subject in subjects]
    for other in subjects[1:]:
        _require_comparable(subjects[0], other, given=images is not None or data is not None)
    dataset, scored = _open_images(subjects, data, images)
    if len(subjects) == 1:
        evaluation = subjects[0].judge(dataset.test, dataset)
        told = _told(subjects[0], evaluation)
        facts = _facts(subjects[0]) | {"data": scored, "evaluation": evaluation.to_json()}
    else:
        comparison = _compare(subjects, dataset.test)
        told = _told_comparison(subjects, comparison)
        facts = {"models": [_facts(each) for each in subjects], "data": scored, "comparison": comparison.to_json()}
    out(json.dumps(facts, indent=2) if as_json else "\n".join(map(printable, told)))


def _target(named: str | None, runs: Path) -> str:
    """Return the name of a model file as it is, and of a run its folder."""
    from cifarnet.evaluation.target import names_file

    from .runs import trained_run

    return named if named is not None and names_file(named) else str(trained_run(runs, named))


def _require_sense(models: list[str] | None, data: str | None, images: str | None) -> None:
    if len(models or ()) > 2:
        raise UsageError(f"{len(models or ())} models were given; expected one, or two to compare: leave some out")
    if data is not None and images is not None:
        raise UsageError("--data and --images were both given; expected one of them at most: leave the other out")


def _open_images(subjects: "list[Subject]", data: str | None, images: str | None) -> "tuple[Dataset, dict[str, Any]]":
    """Return the data set whose test part is scored, and what the JSON document tells of it."""
    from cifarnet.evaluation.target import is_own, open_images, require_unseen, scored_images

    place = images or data
    try:
        with download_bar() as progress:
            opened = _every_image(subjects[0], images, progress) if images else open_images(subjects[0], data, progress)
        unseen = {subject.name: require_unseen(subject, opened, place) for subject in subjects}
    except DataError as error:
        raise error if place else DataError(f"{error}, or score others with --images") from error
    for name in (name for name, known in unseen.items() if known is None):
        say_not_known(name)
    others = [subject.name for subject in subjects if not is_own(subject, opened)]
    if others and not images:
        say(f"{opened.name} is not, or no longer, what {' and '.join(others)} was trained on")
    return opened, scored_images(opened, same_as_run=not others, unseen=None if None in unseen.values() else True)


def _every_image(subject: "Subject", folder: str, progress: "Progress") -> "Dataset":
    """Return a data set of which every image of a folder is the test part."""
    from cifarnet.contract import Dataset, Split, durable
    from cifarnet.data import open_labeled_images

    split = open_labeled_images(folder, subject.labels, progress)
    _say_missing(subject, split)
    nothing = Split(split.images[:0], split.labels[:0])
    return Dataset(Path(folder).resolve().name, nothing, split, subject.labels).opened_by(durable(folder))


def _say_missing(subject: "Subject", split: "Split") -> None:
    present = set(split.labels.tolist())
    if missing := [label for index, label in enumerate(subject.labels) if index not in present]:
        say(f"no images of {', '.join(map(shortened, missing))}: figures that would need some are left out")


def _require_comparable(first: "Subject", second: "Subject", *, given: bool) -> None:
    """Refuse what would be no comparison: other classes, or test images that one of the two was trained on."""
    if first.labels != second.labels:
        raise DataError(
            f"{second.name} tells {', '.join(second.labels)} apart; expected {', '.join(first.labels)} as "
            f"{first.name}: compare models of the same classes"
        )
    if not given and first.origin.fingerprint != second.origin.fingerprint:
        raise DataError(
            f"{second.name} was trained on other images than {first.name}, perhaps on these test images; expected the "
            "same data set: name images that are new to both with --images"
        )


def _facts(subject: "Subject") -> dict[str, Any]:
    return {"model": subject.name, "engine": subject.engine, "flip": subject.flip}


def _named(subject: "Subject") -> str:
    return f"{subject.name}{' with mirror images' if subject.flip else ''} on {subject.engine}"


def _compare(subjects: "list[Subject]", split: "Split") -> "PairedComparison":
    from cifarnet.evaluation.scoring import predict
    from cifarnet.evaluation.significance import compare

    first, second = (predict(subject.predictor, split.images) for subject in subjects)
    return compare(first, second, split.labels, subjects[0].labels)


def _told(subject: "Subject", found: "Evaluation") -> list[str]:
    return [
        f"{_named(subject)}: {found.images:,} images of {len(found.labels)} classes",
        "",
        *_whole(found),
        "",
        *_classes(found),
        *_confusion(found),
        "",
        *_reliability(found.calibrated or found.reliability),
        *_pairs(found),
        *_errors(found),
    ]


def _whole(found: "Evaluation") -> list[str]:
    low, high = percent(found.accuracy_interval.low, 2), percent(found.accuracy_interval.high, 2)
    lines = [
        f"accuracy     {percent(found.accuracy, 2)}   (95 %: {low} to {high})",
        f"top-2        {percent(found.top2_accuracy, 2)}",
    ]
    ways = [("as they are", found.reliability)]
    if found.calibrated is not None:
        ways.append((f"at temperature {found.calibrated.temperature:g}", found.calibrated))
    rows = [(name, f"{way.loss:.4f}", f"{way.brier:.4f}", percent(way.ece, 2)) for name, way in ways]
    if found.abstaining is not None:
        lines.append(_abstaining(found.abstaining))
    return [*lines, "", *table(("probabilities", "log loss, nats", "Brier score", "calibration error"), rows)]


def _abstaining(found: "SelectivePrediction") -> str:
    right = f", {percent(found.accuracy, 2)} of the answers right" if found.answered else ""
    return f"when unsure  {percent(found.coverage, 2)} answered from a confidence of {percent(found.threshold)}{right}"


def _classes(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), f"{each.images:,}", percent(each.precision), percent(each.recall), percent(each.f1))
        for each in found.classes
    ]
    return table(("class", "images", "precision", "recall", "F1"), rows)


def _confusion(found: "Evaluation") -> list[str]:
    if len(found.labels) > MOST_COLUMNS:
        return []
    heads = [printable(label)[:SHORT] for label in found.labels]
    rows = [(shortened(label), *map(str, row)) for label, row in zip(found.labels, found.confusion, strict=True)]
    return ["", *table(("true class", *heads), rows)]


def _reliability(found: "Reliability") -> list[str]:
    rows = [
        (
            f"{percent(each.low, 0)} to {percent(each.high, 0)}",
            f"{each.images:,}",
            percent(each.confidence),
            percent(each.accuracy),
        )
        for each in found.bins
        if each.images
    ]
    return table((f"confidence at temperature {found.temperature:g}", "images", "mean", "right"), rows)


def _pairs(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), shortened(each.predicted), f"{each.images:,}", percent(each.share))
        for each in found.confused_pairs[:MOST_LINES]
    ]
    return ["", *table(("confused most often", "taken for", "images", "of the class"), rows)] if rows else []


def _errors(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), shortened(each.predicted), percent(each.probability), str(each.index))
        for each in found.confident_errors[:MOST_LINES]
    ]
    return ["", *table(("wrong with most confidence", "taken for", "probability", "image"), rows)] if rows else []


def _told_comparison(subjects: "list[Subject]", found: "PairedComparison") -> list[str]:
    names = [_named(each) for each in subjects]
    rights = (found.first_accuracy, found.only_first_right), (found.second_accuracy, found.only_second_right)
    rows = [(name, percent(accuracy, 2), f"{alone:,}") for name, (accuracy, alone) in zip(names, rights, strict=True)]
    low, high = (f"{100 * end:+.2f}" for end in (found.difference_interval.low, found.difference_interval.high))
    verdict = "one of them is better" if found.p_value < 0.05 else "chance alone can explain it"
    lines = [
        *table((f"{found.images:,} images", "accuracy", "right alone"), rows),
        "",
        f"same class   {percent(found.agreement, 2)} of the images, {len(found.differences):,} differ",
        f"difference   {100 * found.accuracy_difference:+.2f} points of accuracy, second over first "
        f"(95 %: {low} to {high})",
        f"McNemar      p = {found.p_value:.3g}: {verdict}",
    ]
    unlike = [
        (*map(shortened, (each.label, each.first, each.second)), str(each.index))
        for each in found.differences[:MOST_LINES]
    ]
    return [*lines, "", *table(("true class", "first", "second", "image"), unlike)] if unlike else lines
