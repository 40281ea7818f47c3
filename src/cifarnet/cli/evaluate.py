"""``cifarnet evaluate``: metrics of one model, or a paired comparison of two."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet import pretrained
from cifarnet.errors import DataError, UsageError, counted, printable
from cifarnet.run.find import names_file

from .display import download_bar, out_answer, percent, say, say_not_known, shortened, table
from .notes import say_left_out
from .options import BackendOption, JsonOption, RunsOption, SkipBrokenOption, TtaOption
from .runs import trained_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifarnet.dataset import Dataset
    from cifarnet.evaluation.calibration import Reliability
    from cifarnet.evaluation.metrics import ConfidentError, Evaluation
    from cifarnet.evaluation.significance import Difference, PairedComparison
    from cifarnet.evaluation.target import Target

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
            metavar="RUN|MODEL.onnx",
            help="One model, or two to compare, each a run, a model file or pretrained; the latest run by default.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Evaluate on the test split of this dataset instead of the run's own.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Evaluate on every image in this folder with one subfolder per class."),
    ] = None,
    skip_broken: SkipBrokenOption = False,
    tta: TtaOption = 1,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run or a model file, or compare two models.

    Reports accuracy with a 95% confidence interval, top-2 accuracy, log loss, metrics per class, the confusion matrix,
    calibration, the most confused pairs and the most confident errors. A run is evaluated on the chosen backend, a
    model file in onnxruntime.
    """
    if len(models or ()) > 2:
        raise UsageError(f"{len(models or ())} models were given; expected one, or two to compare: leave some out")
    if data is not None and images is not None:
        raise UsageError("--data and --images were both given; expected one of them at most: leave the other out")
    from cifarnet.evaluation.significance import compare
    from cifarnet.evaluation.target import require_comparable

    targets = [_open(name, runs, backend) for name in models or (None,)]
    if tta > 1:
        targets = [target.with_tta(tta) for target in targets]
    for other in targets[1:]:
        require_comparable(targets[0], other, same_data=images is None and data is None)
    dataset, scored = _open_images(targets, data, images, skip_broken=skip_broken)
    if len(targets) == 1:
        evaluation = targets[0].evaluate(dataset.test, dataset)
        lines = _evaluation_lines(targets[0], evaluation)
        document = _description(targets[0]) | {"data": scored, "evaluation": asdict(evaluation)}
    else:
        first, second = (target.logits(dataset.test) for target in targets)
        comparison = compare(first, second, dataset.test.labels, dataset.labels, dataset.test.files)
        lines = _comparison_lines(targets, comparison)
        described = [_description(target) for target in targets]
        document = {"models": described, "data": scored, "comparison": asdict(comparison)}
    out_answer(document, lines, as_json=as_json)


def _open(name: str | None, runs: Path, backend: str | None) -> "Target":
    from cifarnet.backends import choose
    from cifarnet.evaluation.target import file_target, run_target

    if name is None or not (name == pretrained.NAME or names_file(name)):
        return run_target(trained_run(runs, name), choose(backend))
    if backend is not None:
        raise UsageError(f"{name} runs in onnxruntime; expected no --backend with a model file: leave it out")
    return file_target(Path(name)) if name != pretrained.NAME else replace(file_target(pretrained.MODEL), name=name)


def _open_images(
    targets: "list[Target]", data: str | None, images: str | None, *, skip_broken: bool
) -> "tuple[Dataset, dict[str, Any]]":
    from cifarnet.data.class_folders import open_labeled_images
    from cifarnet.evaluation.target import UNKNOWN, is_own, open_images, require_unseen, scored_images

    place = images or data
    try:
        with download_bar() as progress:
            if images:
                labels, shape = targets[0].labels, targets[0].image_shape
                dataset = open_labeled_images(images, labels, progress, shape, skip_broken=skip_broken)
            else:
                dataset = open_images(targets[0], data, progress, skip_broken=skip_broken)
        unseen = {target.name: require_unseen(target, dataset, place) for target in targets}
    except DataError as error:
        raise error if place else DataError(f"{error}, or others with --images") from error
    say_left_out(dataset)
    if missing := set(range(len(dataset.labels))).difference(dataset.test.labels.tolist()) if images else ():
        names = ", ".join(shortened(dataset.labels[label]) for label in sorted(missing))
        say(f"no images of {names}: metrics that need them are omitted")
    for name in (name for name, known in unseen.items() if known is None):
        say_not_known(name)
    others = [target for target in targets if not is_own(target, dataset)]
    if named := [] if images else [target.name for target in others if target.origin != UNKNOWN]:
        say(f"{dataset.name} is not the dataset that {' and '.join(named)} was trained on, or has changed since")
    return dataset, scored_images(dataset, same_as_run=not others, unseen=None if None in unseen.values() else True)


def _description(target: "Target") -> dict[str, Any]:
    return {"model": target.name, "engine": target.engine, "views": target.views}


def _title(target: "Target") -> str:
    return f"{target.name}{f' with {target.views}-view TTA' if target.views > 1 else ''} on {target.engine}"


def _evaluation_lines(target: "Target", found: "Evaluation") -> list[str]:
    return [
        f"{_title(target)}: {counted(found.images, 'image')} of {len(found.labels)} classes",
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
        f"accuracy     {percent(found.accuracy, 2)}   (95% CI: {low} to {high})",
        f"top-2        {percent(found.top2_accuracy, 2)}",
    ]
    if (chosen := found.abstaining) is not None:
        accuracy = f", accuracy {percent(chosen.accuracy, 2)}" if chosen.answered else ""
        coverage = f"coverage {percent(chosen.coverage, 2)} at threshold {percent(chosen.threshold)}"
        lines.append(f"selective    {coverage}{accuracy}")
    rows = [("uncalibrated", found.reliability)]
    if found.calibrated is not None:
        rows.append((f"temperature {found.calibrated.temperature:g}", found.calibrated))
    cells = [(name, f"{each.loss:.4f}", f"{each.brier:.4f}", percent(each.ece, 2)) for name, each in rows]
    return [*lines, "", *table(("probabilities", "log loss, nats", "Brier score", "ECE"), cells)]


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
        (shortened(each.label), shortened(each.predicted), percent(each.probability), _place(each))
        for each in found.confident_errors[:MOST_ROWS]
    ]
    head = ("most confident errors", "predicted", "confidence", _place_title(found.confident_errors))
    return ["", *table(head, rows, texts=2)] if rows else []


def _place_title(found: "Sequence[ConfidentError | Difference]") -> str:
    return "file" if found and found[0].file is not None else "index"


def _place(found: "ConfidentError | Difference") -> str:
    """Return the name of the image file, or the position in the split of a dataset that is not a folder."""
    return str(found.index) if found.file is None else found.file


def _comparison_lines(targets: "list[Target]", found: "PairedComparison") -> list[str]:
    names = [_title(target) for target in targets]
    counts = (found.first_accuracy, found.only_first_right), (found.second_accuracy, found.only_second_right)
    rows = [(name, percent(accuracy, 2), f"{only:,}") for name, (accuracy, only) in zip(names, counts, strict=True)]
    low, high = (f"{100 * end:+.2f}" for end in (found.difference_interval.low, found.difference_interval.high))
    verdict = "significant" if found.p_value < 0.05 else "not significant"
    lines = [
        *table((counted(found.images, "image"), "accuracy", "only this one correct"), rows),
        "",
        f"agreement    {percent(found.agreement, 2)} of the predictions, {len(found.differences):,} differ",
        f"difference   {100 * found.accuracy_difference:+.2f} percentage points of accuracy, second minus first "
        f"(95% CI: {low} to {high})",
        f"McNemar      p = {found.p_value:.3g}: {verdict} at the 5% level",
    ]
    different = [
        (*map(shortened, (each.label, each.first, each.second)), _place(each)) for each in found.differences[:MOST_ROWS]
    ]
    head = ("true class", "first", "second", _place_title(found.differences))
    return [*lines, "", *table(head, different, texts=3)] if different else lines
