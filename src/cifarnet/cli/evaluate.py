"""``cifarnet evaluate``: metrics of one model, or a paired comparison of two."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.errors import DataError, UsageError, printable

from .display import download_bar, out, say, say_not_known, shortened
from .options import DATA, MODEL, BackendOption, JsonOption, OldTtaOption, RunsOption, TtaOption, filled
from .tables import percent, table

if TYPE_CHECKING:
    from cifarnet.data import Progress
    from cifarnet.dataset import Dataset, Split
    from cifarnet.evaluation.calibration import Reliability, SelectivePrediction
    from cifarnet.evaluation.metrics import Evaluation
    from cifarnet.evaluation.significance import PairedComparison
    from cifarnet.evaluation.target import Subject

MOST_COLUMNS = 12
"""Maximum number of classes for which the confusion matrix is printed; --json and the report always have it."""
MOST_ROWS = 8
"""Maximum rows of a list that --json has in full."""
SHORT = 5
"""Maximum characters of a class name above a column of the confusion matrix."""


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|MODEL.onnx] [RUN|MODEL.onnx]",
            help="One model, or two to compare; the latest run by default.",
            show_default=False,
            parser=filled("RUN", MODEL),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset to evaluate on its test split, if not that of the run.",
            show_default=False,
            parser=filled("--data", DATA),
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Evaluate on every image of this folder of class folders.",
            show_default=False,
            parser=filled("--images", "a folder of class folders"),
        ),
    ] = None,
    tta: TtaOption = False,
    flip: OldTtaOption = False,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run or a model file, or compare two models.

    Reports accuracy with a 95 % confidence interval, top-2 accuracy, log loss, metrics per class, the confusion matrix,
    calibration, the most confused pairs and the most confident errors. A run is evaluated on its backend, a model file
    in onnxruntime.
    """
    _require_sense(models, data, images)
    from cifarnet.evaluation.target import FlippedSubject, open_subject

    subjects = [open_subject(_target(named, runs), runs, backend) for named in models or (None,)]
    if tta or flip:
        subjects = [subject if subject.flip else FlippedSubject(subject) for subject in subjects]
    for other in subjects[1:]:
        _require_comparable(subjects[0], other, given=images is not None or data is not None)
    dataset, scored = _open_images(subjects, data, images)
    if len(subjects) == 1:
        evaluation = subjects[0].judge(dataset.test, dataset)
        lines = _evaluation_lines(subjects[0], evaluation)
        facts = _facts(subjects[0]) | {"data": scored, "evaluation": evaluation.to_json()}
    else:
        comparison = _compare(subjects, dataset.test)
        lines = _comparison_lines(subjects, comparison)
        facts = {"models": [_facts(each) for each in subjects], "data": scored, "comparison": comparison.to_json()}
    out(json.dumps(facts, indent=2) if as_json else "\n".join(map(printable, lines)))


def _target(named: str | None, runs: Path) -> str:
    """Return the path of a model file unchanged, or the folder of a run."""
    from cifarnet.evaluation.target import names_file

    from .runs import trained_run

    return named if named is not None and names_file(named) else str(trained_run(runs, named))


def _require_sense(models: list[str] | None, data: str | None, images: str | None) -> None:
    if len(models or ()) > 2:
        raise UsageError(f"{len(models or ())} models were given; expected one, or two to compare: leave some out")
    if data is not None and images is not None:
        raise UsageError("--data and --images were both given; expected one of them at most: leave the other out")


def _open_images(subjects: "list[Subject]", data: str | None, images: str | None) -> "tuple[Dataset, dict[str, Any]]":
    """Return the dataset whose test split is evaluated, and its description for the JSON document."""
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
    """Return a dataset with every image of a folder in the test split."""
    from cifarnet.data import open_labeled_images
    from cifarnet.dataset import Dataset, Split, durable

    split = open_labeled_images(folder, subject.labels, progress)
    _say_missing(subject, split)
    nothing = Split(split.images[:0], split.labels[:0])
    return Dataset(Path(folder).resolve().name, nothing, split, subject.labels).opened_by(durable(folder))


def _say_missing(subject: "Subject", split: "Split") -> None:
    present = set(split.labels.tolist())
    if missing := [label for index, label in enumerate(subject.labels) if index not in present]:
        say(f"no images of {', '.join(map(shortened, missing))}: metrics that need them are omitted")


def _require_comparable(first: "Subject", second: "Subject", *, given: bool) -> None:
    """Raise ``DataError`` for models of different classes or training data."""
    if first.labels != second.labels:
        raise DataError(
            f"{second.name} has the classes {', '.join(second.labels)}; expected {', '.join(first.labels)} as "
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
    return f"{subject.name}{' with TTA' if subject.flip else ''} on {subject.engine}"


def _compare(subjects: "list[Subject]", split: "Split") -> "PairedComparison":
    from cifarnet.evaluation.scoring import predict
    from cifarnet.evaluation.significance import compare

    first, second = (predict(subject.predictor, split.images) for subject in subjects)
    return compare(first, second, split.labels, subjects[0].labels)


def _evaluation_lines(subject: "Subject", found: "Evaluation") -> list[str]:
    return [
        f"{_named(subject)}: {found.images:,} images of {len(found.labels)} classes",
        "",
        *_overall(found),
        "",
        *_classes(found),
        *_confusion(found),
        "",
        *_reliability(found.calibrated or found.reliability),
        *_pairs(found),
        *_errors(found),
    ]


def _overall(found: "Evaluation") -> list[str]:
    low, high = percent(found.accuracy_interval.low, 2), percent(found.accuracy_interval.high, 2)
    lines = [
        f"accuracy     {percent(found.accuracy, 2)}   (95 % CI: {low} to {high})",
        f"top-2        {percent(found.top2_accuracy, 2)}",
    ]
    if found.abstaining is not None:
        lines.append(_selective(found.abstaining))
    rows = [("uncalibrated", found.reliability)]
    if found.calibrated is not None:
        rows.append((f"temperature {found.calibrated.temperature:g}", found.calibrated))
    cells = [(name, f"{each.loss:.4f}", f"{each.brier:.4f}", percent(each.ece, 2)) for name, each in rows]
    return [*lines, "", *table(("probabilities", "log loss, nats", "Brier score", "ECE"), cells)]


def _selective(found: "SelectivePrediction") -> str:
    accuracy = f", accuracy {percent(found.accuracy, 2)}" if found.answered else ""
    return f"selective    coverage {percent(found.coverage, 2)} at threshold {percent(found.threshold)}{accuracy}"


def _classes(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), f"{each.images:,}", percent(each.precision), percent(each.recall), percent(each.f1))
        for each in found.classes
    ]
    return table(("class", "images", "precision", "recall", "F1"), rows)


def _confusion(found: "Evaluation") -> list[str]:
    if len(found.labels) > MOST_COLUMNS:
        return []
    predicted = [printable(label)[:SHORT] for label in found.labels]
    rows = [(shortened(label), *map(str, row)) for label, row in zip(found.labels, found.confusion, strict=True)]
    return ["", *table(("true \\ predicted", *predicted), rows)]


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
    return table((f"confidence at temperature {found.temperature:g}", "images", "mean confidence", "accuracy"), rows)


def _pairs(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), shortened(each.predicted), f"{each.images:,}", percent(each.share))
        for each in found.confused_pairs[:MOST_ROWS]
    ]
    return ["", *table(("most confused", "predicted", "images", "share of class"), rows, texts=2)] if rows else []


def _errors(found: "Evaluation") -> list[str]:
    rows = [
        (shortened(each.label), shortened(each.predicted), percent(each.probability), str(each.index))
        for each in found.confident_errors[:MOST_ROWS]
    ]
    return ["", *table(("most confident errors", "predicted", "confidence", "index"), rows, texts=2)] if rows else []


def _comparison_lines(subjects: "list[Subject]", found: "PairedComparison") -> list[str]:
    names = [_named(each) for each in subjects]
    counts = (found.first_accuracy, found.only_first_right), (found.second_accuracy, found.only_second_right)
    rows = [(name, percent(accuracy, 2), f"{only:,}") for name, (accuracy, only) in zip(names, counts, strict=True)]
    low, high = (f"{100 * end:+.2f}" for end in (found.difference_interval.low, found.difference_interval.high))
    verdict = "significant" if found.p_value < 0.05 else "not significant"
    lines = [
        *table((f"{found.images:,} images", "accuracy", "only this one correct"), rows),
        "",
        f"agreement    {percent(found.agreement, 2)} of the predictions, {len(found.differences):,} differ",
        f"difference   {100 * found.accuracy_difference:+.2f} percentage points of accuracy, second minus first "
        f"(95 % CI: {low} to {high})",
        f"McNemar      p = {found.p_value:.3g}: {verdict} at the 5 % level",
    ]
    different = [
        (*map(shortened, (each.label, each.first, each.second)), str(each.index))
        for each in found.differences[:MOST_ROWS]
    ]
    return [*lines, "", *table(("true class", "first", "second", "index"), different, texts=3)] if different else lines
