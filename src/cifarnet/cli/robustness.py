"""``cifarnet robustness``: how an exported model holds up when its images are corrupted."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.contract import printable, shell_word
from cifarnet.errors import RunError

from .display import download_bar, image_bar, out, say, say_not_known
from .options import DATA, SUBJECT, JsonOption, RunsOption, filled
from .tables import percent, table

if TYPE_CHECKING:
    from cifarnet.evaluation.robustness import Robustness
    from cifarnet.run_folder import Run


@dataclass(frozen=True)
class Target:
    """What is to be measured: a model file, and the run that it belongs to where one was asked for."""

    model: Path
    run: "Run | None"


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Run folder or model file; the latest run by default.",
            metavar="RUN|MODEL.onnx",
            show_default=False,
            parser=filled("RUN", SUBJECT),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images to corrupt, as for `cifarnet train`.",
            show_default="those that the model was trained on",
            parser=filled("--data", DATA),
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Take every test image rather than 2,000.")] = False,
    seed: Annotated[int, typer.Option(help="Chooses the images and draws the corruptions.")] = 0,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Score an exported model on test images under fifteen corruptions, from noise to JPEG, at five severities.

    The figures of a run on its own test images are kept in its folder as robustness.json.
    """
    import scipy.ndimage  # noqa: F401  # where it is missing that is said before the first image

    from cifarnet.atomic import require_writable, write_atomically
    from cifarnet.contract import ROBUSTNESS
    from cifarnet.evaluation.robustness import DEFAULT_IMAGES, measure_robustness
    from cifarnet.evaluation.target import FileSubject, is_own, open_images, require_unseen, scored_images
    from cifarnet.runtime import open_model, read_model

    target = _target(model, runs)
    content, _ = read_model(target.model)
    subject = FileSubject(target.model, target.run)
    with download_bar() as progress:
        dataset = open_images(subject, data, progress)
    same_as_run, unseen = is_own(subject, dataset), require_unseen(subject, dataset, data)
    if unseen is None:
        say_not_known(subject.name)
    kept = target.run.path / ROBUSTNESS if target.run and same_as_run else None
    if kept:
        require_writable(kept)  # before a minute of measuring
    with _progress() as advance:
        found = measure_robustness(
            open_model(content, threads=0),
            dataset.test,
            sha256=hashlib.sha256(content).hexdigest(),
            images=len(dataset.test) if every else DEFAULT_IMAGES,
            seed=seed,
            advance=advance,
        )
    document = found.to_json() | {"data": scored_images(dataset, same_as_run=same_as_run, unseen=unseen)}
    record = json.dumps(document, indent=2, allow_nan=False)
    try:
        out(record if as_json else _told(found, target.model))
    finally:  # printed where they cannot be written, and written where they cannot be printed
        if kept:
            write_atomically(kept, (record + "\n").encode())
    if target.run and not kept:
        say(f"{dataset.name} is not what {target.run} was trained on: the figures are not kept in its folder")


def _target(name: str | None, runs: Path) -> Target:
    from cifarnet.evaluation.target import names_file
    from cifarnet.run_state import require_own_export

    from .runs import recorded_run

    if name and names_file(name):
        return Target(Path(name), None)
    run = recorded_run(runs, name)
    if not run.model.is_file():
        raise RunError(
            f"{run} has no {run.model.name}; expected an exported model: "
            f"`cifarnet export {shell_word(str(run))} --onnx` first"
        )
    require_own_export(run)
    return Target(run.model, run)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Yield what is to be called once per family and severity: a bar on a terminal, a line per family elsewhere."""
    from cifarnet.evaluation.corruptions import FAMILIES, SEVERITIES

    if sys.stderr.isatty():
        with image_bar(1 + len(FAMILIES) * len(SEVERITIES)) as advance:
            yield lambda *_: advance()
    else:
        yield lambda family, severity: say(family) if severity in (0, SEVERITIES[-1]) else None


def _told(found: "Robustness", model: Path) -> str:
    from cifarnet.evaluation.corruptions import SEVERITIES

    rows = [
        [
            family.name,
            *(f"{100 * tally.accuracy:.2f}" for tally in family.tallies),
            f"{100 * (1 - family.mean_error):.2f}",
        ]
        for family in found.families
    ]
    lines = table(("accuracy, % at severity", *map(str, SEVERITIES), "mean"), rows)
    return "\n".join([*lines, "", *map(printable, _facts(found, model))])


def _facts(found: "Robustness", model: Path) -> Iterator[str]:
    low, high = percent(found.clean.interval.low, 2), percent(found.clean.interval.high, 2)
    yield f"clean accuracy {percent(found.clean.accuracy, 2)} (95 %: {low} to {high})"
    side = "above" if found.added_error >= 0 else "below"
    yield (
        f"mean corruption error {percent(found.mean_corruption_error, 2)}, {abs(100 * found.added_error):.2f} points "
        f"{side} the clean error; not divided by AlexNet's"
    )
    yield f"largest mean errors: {', '.join(f'{each.name} {percent(each.mean_error, 2)}' for each in found.worst)}"
    yield f"{found.clean.images:,} of {found.images_in_split:,} test images, seed {found.seed}, {model}"
    yield "corruptions drawn anew: comparable in kind with figures for CIFAR-10-C, not digit for digit"
