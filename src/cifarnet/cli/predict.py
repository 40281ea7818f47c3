"""``cifarnet predict``: classify image files with an exported model."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet import pretrained
from cifarnet.errors import DataError, ModelError, UsageError, printable
from cifarnet.run.find import is_run
from cifarnet.run.folder import LATEST

from .display import complain, image_bar, out, percent, say, shortened
from .options import RunsOption
from .runs import model_name, named_model

if TYPE_CHECKING:
    from cifarnet.runtime import Classifier, Outcome, Prediction

STANDARD_INPUT = "-"
DEFAULT_TOP = 3
DEFAULT_TOP_WITH_ANSWER = 2
"""With --abstain; the table has one more column then."""
ABSTAINED = "abstained"
"""Shown in the table below the threshold."""
GAP = "   "
WIDEST_LABEL = 20
"""Maximum characters of a class name in the table."""


Formatter = Callable[[str, "Prediction", str | None], str]
"""Formats a file name, its prediction, and the accepted class, None below the threshold."""


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Image files or folders; - reads one image from standard input. The model comes first: a file "
            "written by `cifarnet export`, an exported run, latest (the newest exported run), or pretrained (the "
            "bundled CIFAR-10 classifier). Without one, latest is used, or pretrained if no run is exported.",
            metavar="[MODEL] IMAGE|DIR|-",
        ),
    ],
    top: Annotated[
        int | None,
        typer.Option(
            help="Number of classes per image.", show_default=f"{DEFAULT_TOP}, with --abstain {DEFAULT_TOP_WITH_ANSWER}"
        ),
    ] = None,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Selective prediction: no label below the confidence threshold.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Confidence threshold, 0 to 1; implies --abstain.", show_default="stored in the file", min=0, max=1
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per line on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values on stdout.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Classify only shard I of N, counted from 0, for the tasks of a job array. With --csv every shard "
            "prints the header.",
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Classify image files with an exported model.

    Images may have any size. Probabilities are calibrated if the model file has a temperature. A file that cannot be
    used is reported on stderr, the others are still classified, and the exit code is 1.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv were both given; expected one of them at most: leave the other out")
    from cifarnet.preprocessing import bombs_refused
    from cifarnet.runtime import Classifier

    model, images = _model_and_images(names, runs)
    share = (0, 1) if shard is None else _shard(shard, images)
    classifier = Classifier(model)
    is_selective = abstain or threshold is not None
    count = _count(top, classifier.labels, is_selective)
    least = _threshold(classifier, model, threshold) if is_selective else 0.0
    if as_json:
        header, line = _json(count, is_selective=is_selective)
    elif as_csv:
        header, line = _csv(count, is_selective=is_selective)
    else:
        header, line = _table(count, classifier.labels, is_selective=is_selective)
        if is_selective:
            say(f"answers have a calibrated confidence of {percent(least, 2)} or more")
    if shard is not None and as_csv:  # a shard without images is a valid file as well
        out(header)
        header = ""
    with bombs_refused(), image_bar(_number_of(images, share)) as advance:
        all_good = _print_all(_outcomes(classifier, images, share), header, line, least, advance)
    if not share[0]:  # one shard prints it
        _say_unread(images)
    if not all_good:
        raise typer.Exit(1)


def _model_and_images(names: list[str], runs: Path) -> tuple[Path, list[str]]:
    first, *others = names
    is_name = first in (LATEST, pretrained.NAME) and not Path(first).exists()
    if not (_is_named_onnx(first) or is_name or is_run(runs, first)):
        if later := next(filter(_is_named_onnx, others), None):
            raise UsageError(f"the model {later} comes after an image; expected the model first: swap the two")
        model = named_model(runs, None)
        say(f"using {model_name(model)}")
        return model, names
    if not others:
        raise UsageError(f"only the model {first} was given; expected images after it: name files or folders")
    return named_model(runs, first), others


def _is_named_onnx(name: str) -> bool:
    return name.lower().endswith(".onnx")


def _count(top: int | None, labels: tuple[str, ...], is_selective: bool) -> int:
    if top is None:
        return min(DEFAULT_TOP_WITH_ANSWER if is_selective else DEFAULT_TOP, len(labels))
    if not 1 <= top <= len(labels):
        raise UsageError(f"--top is {top}; expected 1 to {len(labels)}, the number of the model's classes: change it")
    return top


def _threshold(classifier: "Classifier", model: Path, given: float | None) -> float:
    if classifier.temperature is None:
        raise ModelError(
            f"{model} has no calibrated probabilities, which --abstain needs; expected a file with a temperature: "
            "export the run again, or give export_model validation images"
        )
    if given is not None:
        return given
    if classifier.abstention is None:
        raise UsageError(
            f"{model} contains no threshold, since none reached the target accuracy; expected one: give --threshold"
        )
    return classifier.abstention.threshold


def _shard(text: str, images: list[str]) -> tuple[int, int]:
    if STANDARD_INPUT in images:
        raise UsageError("--shard was given with -; expected files or folders, which it divides: leave one out")
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    index, count = map(int, numbers.groups()) if numbers else (0, 0)
    if index >= count:
        raise UsageError(
            f"--shard is {text!r}; expected I/N, I from 0 to N-1, such as 0/8 to 7/8: number the tasks of the array "
            "from 0"
        )
    return index, count


def _number_of(images: Iterable[str], shard: tuple[int, int]) -> int:
    """Return the number of images if stderr is a terminal, where the progress bar needs it, or 0."""
    from cifarnet.runtime import find_images

    return sum(1 for _ in find_images(images, shard)) if sys.stderr.isatty() else 0


def _say_unread(images: list[str]) -> None:
    from cifarnet.runtime.files import count_unread

    if unread := count_unread(image for image in images if image not in ("", STANDARD_INPUT)):
        from .notes import note_on_unread  # run records, which nothing else here needs

        say(note_on_unread(unread))


def _outcomes(classifier: "Classifier", images: Iterable[str], shard: tuple[int, int]) -> "Iterator[Outcome]":
    for is_standard_input, group in groupby(images, lambda image: image == STANDARD_INPUT):
        if is_standard_input:
            yield from (_from_standard_input(classifier) for _ in group)
        else:
            yield from classifier.stream(group, shard=shard)


def _from_standard_input(classifier: "Classifier") -> "Outcome":
    from cifarnet.runtime import Outcome

    try:
        return Outcome(Path(STANDARD_INPUT), prediction=classifier(sys.stdin.buffer.read()))
    except DataError as error:
        return Outcome(Path(STANDARD_INPUT), error=DataError(f"standard input: {error}"))


def _print_all(
    outcomes: "Iterable[Outcome]", header: str, line: Formatter, threshold: float, advance: Callable[[], None]
) -> bool:
    all_good = True
    for outcome in outcomes:
        prediction = outcome.prediction
        if prediction is None:
            complain(outcome.error)
            all_good = False
        else:
            if header:
                out(header)
                header = ""
            is_accepted = not threshold or (prediction.confidence or 0.0) >= threshold
            out(line(str(outcome.path), prediction, prediction.label if is_accepted else None))
        advance()
    return all_good


def _top(prediction: "Prediction", count: int) -> tuple[tuple[str, float], ...]:
    return (prediction.calibrated or prediction.scores)[:count]


def _json(count: int, *, is_selective: bool) -> tuple[str, Formatter]:
    def line(file: str, prediction: "Prediction", accepted: str | None) -> str:
        top = [{"label": label, "probability": probability} for label, probability in _top(prediction, count)]
        answer: dict[str, Any] = {"answer": accepted} if is_selective else {}
        return json.dumps({"file": file, **answer, **top[0], "confidence": prediction.confidence, "top": top})

    return "", line


def _csv(count: int, *, is_selective: bool) -> tuple[str, Formatter]:
    def line(file: str, prediction: "Prediction", accepted: str | None) -> str:
        answer = [accepted or "", prediction.confidence] if is_selective else []
        return _csv_line(file, *answer, *(value for pair in _top(prediction, count) for value in pair))

    answer = ["answer", "confidence"] if is_selective else []
    columns = [f"{column}_{place}" for place in range(1, count + 1) for column in ("label", "probability")]
    return _csv_line("file", *answer, *columns), line


def _csv_line(*values: object) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)  # with an empty line terminator it would not quote line breaks
    text = line.getvalue().removesuffix("\r\n")
    # A terminal would interpret control characters. Files and programs get every name unchanged, except that what
    # the encoding of the output lacks is written as an escape, such as \udcff.
    return printable(text) if sys.stdout.isatty() else text


def _table(count: int, labels: tuple[str, ...], *, is_selective: bool) -> tuple[str, Formatter]:
    """Return header and formatter of aligned columns, known before the first image: rows are printed as they come."""
    width = max(len(shortened(label, WIDEST_LABEL)) for label in (*labels, *([ABSTAINED] if is_selective else [])))

    def cell(label: str, probability: float) -> str:
        return f"{shortened(label, WIDEST_LABEL):<{width}} {100 * probability:6.2f}%"

    def line(file: str, prediction: "Prediction", accepted: str | None) -> str:
        answer = [(accepted or ABSTAINED, prediction.confidence or 0.0)] if is_selective else []
        return GAP.join([*(cell(*each) for each in (*answer, *_top(prediction, count))), printable(file)])

    titles = [*(["answer"] if is_selective else []), *(f"{place}." for place in range(1, count + 1))]
    return GAP.join([*(f"{title:<{len(cell('', 0.0))}}" for title in titles), "file"]), line
