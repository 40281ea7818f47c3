"""``cifarnet predict``: what an exported model says of image files."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import DataError, UsageError

from .display import complain, image_bar, out, printable

if TYPE_CHECKING:
    from cifarnet.runtime import Classifier, Outcome

STANDARD_INPUT = "-"
DEFAULT_TOP = 3
FAILED = 1
"""Exit code where a file could not be used, once the others came out."""

Scores = tuple[tuple[str, float], ...]
"""Classes with their probabilities, the most probable first."""


@dataclass(frozen=True)
class Layout:
    """How predictions are written: the first line, if there is one, and the line of a file."""

    header: str | None
    line: Callable[[str, Scores], str]


def command(
    model: Annotated[Path, typer.Argument(help="File from `cifarnet export`.", metavar="MODEL.onnx")],
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, folders of them, - for one on standard input.", metavar="IMAGE|DIR|-"),
    ],
    top: Annotated[
        int | None, typer.Option(help="Classes to name for each image.", show_default=f"{DEFAULT_TOP}, or all of fewer")
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
    from cifarnet.pictures import bombs_refused
    from cifarnet.runtime import Classifier

    classifier = Classifier(model)
    count = _count(top, classifier.labels)
    layout = JSON_LINES if as_json else _csv(count) if as_csv else _table(count, classifier.labels)
    _accept_any_name()
    with bombs_refused(), image_bar(_number_of(images)) as advance:
        if not _print_all(_outcomes(classifier, images), layout, count, advance):
            raise typer.Exit(FAILED)


def _count(top: int | None, labels: tuple[str, ...]) -> int:
    if top is None:
        return min(DEFAULT_TOP, len(labels))
    if not 1 <= top <= len(labels):
        raise UsageError(f"--top is {top}; expected 1 to {len(labels)}, the number of the model's classes: change it")
    return top


def _accept_any_name() -> None:
    """Let stdout write what its encoding lacks, in file names for one, as escapes, as stderr does anyway."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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


def _print_all(outcomes: "Iterable[Outcome]", layout: Layout, count: int, advance: Callable[[], None]) -> bool:
    """Print each outcome as it comes. Return whether all were predictions."""
    header, all_good = layout.header, True
    for outcome in outcomes:
        if outcome.prediction is None:
            complain(outcome.error)
            all_good = False
        else:
            if header is not None:
                out(header)
                header = None
            out(layout.line(str(outcome.path), outcome.prediction.top(count)))
        advance()
    return all_good


def _json_line(file: str, scores: Scores) -> str:
    top = [{"label": label, "probability": probability} for label, probability in scores]
    return json.dumps({"file": file, **top[0], "top": top})


JSON_LINES = Layout(header=None, line=_json_line)


def _csv(count: int) -> Layout:
    columns = [f"{column}_{place}" for place in range(1, count + 1) for column in ("label", "probability")]
    return Layout(
        _csv_line("file", *columns), lambda file, scores: _csv_line(file, *(x for pair in scores for x in pair))
    )


def _csv_line(*values: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    # A file or a program gets every name as it is; a terminal would obey what is in it.
    return printable(line.getvalue()) if sys.stdout.isatty() else line.getvalue()


def _table(count: int, labels: tuple[str, ...]) -> Layout:
    """Lay out columns that stay in line though the names of the files, which come last, are not known beforehand."""
    width = max(len(printable(label)) for label in labels)

    def line(file: str, scores: Scores) -> str:
        cells = [f"{printable(label):<{width}} {100 * probability:6.2f} %" for label, probability in scores]
        return "   ".join([*cells, printable(file)])

    places = [f"{f'{place}.':<{width + len(' 100.00 %')}}" for place in range(1, count + 1)]
    return Layout("   ".join([*places, "file"]), line)
