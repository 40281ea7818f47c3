"""``cifarnet predict``: what an exported model says of image files."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.contract import printable
from cifarnet.errors import DataError, ModelError, UsageError

from .display import complain, image_bar, out, say, shortened

if TYPE_CHECKING:
    from cifarnet.contract import Prediction
    from cifarnet.runtime import Classifier, Outcome

STANDARD_INPUT = "-"
DEFAULT_TOP = 3
DEFAULT_TOP_BESIDE_AN_ANSWER = 2
"""With the answer they make as many columns as without it."""
FAILED = 1
"""Exit code where a file could not be used, once the others came out."""
ABSTAINED = "abstained"
"""Stands in the table where there is no answer."""
PERCENT_WIDTH = len(" 100.00 %")
GAP = "   "
FILE_WIDTH, LEAST_LABEL = 14, 6
"""Characters of a terminal's line: kept for the name of the file, and left of a label at least."""


@dataclass(frozen=True)
class Answered:
    """What is said of one image file."""

    file: str
    prediction: "Prediction"
    top: tuple[tuple[str, float], ...]
    """Classes with their probabilities, the most probable first."""
    threshold: float | None
    """Least confidence of an answer, 0 to 1; None where every image is answered."""

    @property
    def answer(self) -> str | None:
        """The class, or None where the model is not confident enough to name it."""
        confidence = self.prediction.confidence
        is_answered = self.threshold is None or (confidence is not None and confidence >= self.threshold)
        return self.prediction.label if is_answered else None


@dataclass(frozen=True)
class Layout:
    """How predictions are written: the first line, if there is one, and the line of a file."""

    header: str | None
    line: Callable[[Answered], str]


def command(
    model: Annotated[str, typer.Argument(help="File from `cifarnet export`.", metavar="MODEL.onnx")],
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, folders of them, - for one on standard input.", metavar="IMAGE|DIR|-"),
    ],
    top: Annotated[
        int | None,
        typer.Option(
            help="Classes to name for each image.",
            show_default=f"{DEFAULT_TOP}, with --abstain {DEFAULT_TOP_BESIDE_AN_ANSWER}, or all of fewer",
        ),
    ] = None,
    abstain: Annotated[bool, typer.Option("--abstain", help="Give no answer where the model is not sure.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Least confidence of an answer, 0 to 1; abstains too.", show_default="the file's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")] = False,
) -> None:
    """Say what images show, by an exported model; needs no framework.

    Images may have any size. A file that cannot be used is reported on stderr, the others still come out, and the exit
    code is 1.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv were both given; expected one of them at most: leave the other out")
    from cifarnet.preprocessing import bombs_refused

    classifier = _opened(model, images)
    is_abstaining = abstain or threshold is not None
    count = _count(top, classifier.labels, is_abstaining)
    least = _threshold(classifier, model, threshold) if is_abstaining else None
    if as_json:
        layout = _json(is_abstaining)
    else:
        layout = _csv(count, is_abstaining) if as_csv else _table(count, classifier.labels, is_abstaining)
    if least is not None and not (as_json or as_csv):
        say(f"answered from a calibrated confidence of {100 * least:.2f} %; places 1 and on show plain probabilities")
    with bombs_refused(), image_bar(_number_of(images)) as advance:
        if not _print_all(_outcomes(classifier, images), layout, count, least, advance):
            raise typer.Exit(FAILED)


def _opened(model: str, images: list[str]) -> "Classifier":
    from cifarnet.runtime import Classifier

    try:
        return Classifier(model)
    except ModelError as error:
        first = images[0]
        if _is_named_onnx(first) and not _is_named_onnx(model):
            raise UsageError(
                f"{model} is no ONNX file, but {first} is called one; expected the model first: swap the two"
            ) from error
        raise


def _is_named_onnx(name: str) -> bool:
    return name.lower().endswith(".onnx")


def _count(top: int | None, labels: tuple[str, ...], is_abstaining: bool) -> int:
    if top is None:
        return min(DEFAULT_TOP_BESIDE_AN_ANSWER if is_abstaining else DEFAULT_TOP, len(labels))
    if not 1 <= top <= len(labels):
        raise UsageError(f"--top is {top}; expected 1 to {len(labels)}, the number of the model's classes: change it")
    return top


def _threshold(classifier: "Classifier", model: str, given: float | None) -> float:
    """Return the least confidence of an answer: the one that was given, or the file's."""
    if given is not None and not 0 <= given <= 1:
        raise UsageError(f"--threshold is {given:g}; expected a confidence, 0 to 1: change it")
    if classifier.temperature is None:
        raise ModelError(
            f"{model} has no calibrated probabilities; expected a file with a temperature to abstain by: "
            "export the run anew"
        )
    if given is not None:
        return given
    if classifier.abstention is None:
        raise UsageError(
            f"{model} names no threshold: at none were its answers right often enough; expected one to abstain by: "
            "give it with --threshold"
        )
    return classifier.abstention.threshold


def _number_of(images: Iterable[str]) -> int:
    """Return how many images are to come where somebody watches: only a bar wants to know it beforehand."""
    from cifarnet.runtime import find_images

    return sum(1 for _ in find_images(images)) if sys.stderr.isatty() else 0


def _outcomes(classifier: "Classifier", images: Iterable[str]) -> "Iterator[Outcome]":
    for is_standard_input, group in groupby(images, lambda image: image == STANDARD_INPUT):
        if is_standard_input:
            yield from (_from_standard_input(classifier) for _ in group)
        else:
            yield from classifier.stream(group)


def _from_standard_input(classifier: "Classifier") -> "Outcome":
    from cifarnet.runtime import Outcome

    try:
        return Outcome(Path(STANDARD_INPUT), prediction=classifier(sys.stdin.buffer.read()))
    except DataError as error:
        return Outcome(Path(STANDARD_INPUT), error=DataError(f"standard input: {error}"))


def _print_all(
    outcomes: "Iterable[Outcome]", layout: Layout, count: int, threshold: float | None, advance: Callable[[], None]
) -> bool:
    """Print each outcome as it comes. Return whether all were predictions."""
    header, all_good = layout.header, True
    for outcome in outcomes:
        prediction = outcome.prediction
        if prediction is None:
            complain(outcome.error)
            all_good = False
        else:
            if header is not None:
                out(header)
                header = None
            out(layout.line(Answered(str(outcome.path), prediction, prediction.top(count), threshold)))
        advance()
    return all_good


def _json(is_abstaining: bool) -> Layout:
    def line(said: Answered) -> str:
        top = [{"label": label, "probability": probability} for label, probability in said.top]
        answer: dict[str, Any] = {"answer": said.answer} if is_abstaining else {}
        document = {"file": said.file, **answer, **top[0], "confidence": said.prediction.confidence, "top": top}
        return json.dumps(document)

    return Layout(header=None, line=line)


def _csv(count: int, is_abstaining: bool) -> Layout:
    def line(said: Answered) -> str:
        answer = [said.answer or "", said.prediction.confidence] if is_abstaining else []
        return _csv_line(said.file, *answer, *(value for pair in said.top for value in pair))

    answer = ["answer", "confidence"] if is_abstaining else []
    columns = [f"{column}_{place}" for place in range(1, count + 1) for column in ("label", "probability")]
    return Layout(_csv_line("file", *answer, *columns), line)


def _csv_line(*values: object) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)  # with an empty line terminator it would not quote line breaks
    text = line.getvalue().removesuffix("\r\n")
    # A file or a program gets every name as it is; a terminal would obey what is in it.
    return printable(text) if sys.stdout.isatty() else text


def _table(count: int, labels: tuple[str, ...], is_abstaining: bool) -> Layout:
    """Lay out columns that stay in line though the names of the files, which come last, are not known beforehand."""
    width = _label_width(labels, count + is_abstaining)
    answer_width = max(width, len(ABSTAINED))

    def line(said: Answered) -> str:
        cells = [_cell(label, probability, width) for label, probability in said.top]
        if is_abstaining:
            cells.insert(0, _cell(said.answer or ABSTAINED, said.prediction.confidence or 0.0, answer_width))
        return GAP.join([*cells, printable(said.file)])

    places = [f"{f'{place}.':<{width + PERCENT_WIDTH}}" for place in range(1, count + 1)]
    if is_abstaining:
        places.insert(0, f"{'answer':<{answer_width + PERCENT_WIDTH}}")
    return Layout(GAP.join([*places, "file"]), line)


def _label_width(labels: tuple[str, ...], cells: int) -> int:
    """Return how many characters a label may take: those of the longest, or what a terminal has room for."""
    longest = max(len(shortened(label)) for label in labels)
    if not sys.stdout.isatty():
        return longest
    room = (shutil.get_terminal_size().columns - FILE_WIDTH) // cells - PERCENT_WIDTH - len(GAP)
    return min(longest, max(LEAST_LABEL, room))


def _cell(label: str, probability: float, width: int) -> str:
    return f"{shortened(label, width):<{width}} {100 * probability:6.2f} %"
