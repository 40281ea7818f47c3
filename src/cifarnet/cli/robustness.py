"""``cifarnet robustness``: accuracy of an exported model on corrupted images."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.errors import UsageError, shown
from cifarnet.run.typed_json import json_text

from .display import download_bar, image_bar, out, out_lines, percent, say, say_not_known, table
from .notes import say_left_out
from .options import JsonOption, ModelArgument, RunsOption, SkipBrokenOption
from .runs import model_and_run, model_name

if TYPE_CHECKING:
    from cifarnet.dataset import Dataset
    from cifarnet.evaluation.robustness import FamilyResult, Robustness
    from cifarnet.run.folder import Run


def command(
    model: ModelArgument = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset whose test images are corrupted.", show_default="that of the run")
    ] = None,
    cifar10c: Annotated[
        Path | None,
        typer.Option(
            "--cifar10c", metavar="DIR", help="Evaluate on the published CIFAR-10-C arrays in this folder instead."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Use every test image instead of 2,000.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the image subset and the corruptions.", min=0)] = 0,
    skip_broken: SkipBrokenOption = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Evaluate an exported model on corrupted test images.

    Applies fifteen corruptions, from noise to JPEG, at five severities; with --cifar10c, uses the published images
    instead. Results of a run on its own test images are stored in the run folder as robustness.json, or with --cifar10c
    as robustness.cifar10c.json.
    """
    if cifar10c and seed:
        raise UsageError(
            f"--seed {seed} does not apply to the images of --cifar10c, all of which are used: leave it out"
        )
    import scipy.ndimage  # noqa: F401  # fail before the first image if it is missing

    from cifarnet.atomic import require_writable, write_atomically
    from cifarnet.contract import PUBLISHED_ROBUSTNESS, ROBUSTNESS
    from cifarnet.evaluation.corruptions import FAMILIES
    from cifarnet.evaluation.robustness import DEFAULT_IMAGES, measure_robustness, open_published
    from cifarnet.runtime import open_model, read_model

    path, run = model_and_run(runs, model)
    content, _ = read_model(path)
    dataset, scored = _open_images(path, run, data, skip_broken=skip_broken)
    stored = run.path / (PUBLISHED_ROBUSTNESS if cifar10c else ROBUSTNESS) if run and scored["same_as_run"] else None
    if stored:
        require_writable(stored)  # before a minute of measuring
        if stored.exists():
            say(f"note: the results in {shown(stored)} will be replaced")
    published = open_published(cifar10c, dataset) if cifar10c else None
    with _progress(tuple(published or FAMILIES)) as advance:
        found = measure_robustness(
            open_model(content, threads=0),
            dataset.test,
            sha256=hashlib.sha256(content).hexdigest(),
            images=len(dataset.test) if every else DEFAULT_IMAGES,
            seed=seed,
            published=published,
            advance=advance,
        )
    record = json_text(found.to_json() | {"data": scored})
    try:
        if as_json:
            out(record)
        else:
            out_lines(_lines(found, path))
    finally:  # if printing fails, the results are still stored
        if stored:
            write_atomically(stored, (record + "\n").encode())
    if run and not stored:
        say(f"{dataset.name} is not the dataset of {run}: the results are not stored in its folder")


def _open_images(
    path: Path, run: "Run | None", data: str | None, *, skip_broken: bool
) -> "tuple[Dataset, dict[str, Any]]":
    from cifarnet.evaluation.target import file_target, is_own, open_images, require_unseen, scored_images

    target = file_target(path, run)
    with download_bar() as progress:
        dataset = open_images(target, data, progress, skip_broken=skip_broken)
    same_as_run, unseen = is_own(target, dataset), require_unseen(target, dataset, data)
    say_left_out(dataset)
    if unseen is None:
        say_not_known(target.name)
    return dataset, scored_images(dataset, same_as_run=same_as_run, unseen=unseen)


@contextmanager
def _progress(families: Sequence[str]) -> Iterator[Callable[[str, int], None]]:
    from cifarnet.evaluation.corruptions import SEVERITIES

    if sys.stderr.isatty():
        with image_bar(1 + len(families) * len(SEVERITIES)) as advance:
            yield lambda *_: advance()
    else:
        yield lambda family, severity: say(family) if severity in (0, SEVERITIES[-1]) else None


def _lines(found: "Robustness", model: Path) -> Iterator[str]:
    yield from _accuracies(found.families, "accuracy, % at severity")
    if found.extra:
        yield from ("", *_accuracies(found.extra, "additional corruptions"))
    yield from ("", *_summary(found, model))


def _accuracies(families: "Mapping[str, FamilyResult]", title: str) -> list[str]:
    from cifarnet.evaluation.corruptions import SEVERITIES

    rows = [
        [name, *(f"{100 * accuracy:.2f}" for accuracy in (*each.accuracies, 1 - each.mean_error))]
        for name, each in families.items()
    ]
    return table((title, *map(str, SEVERITIES), "mean"), rows)


def _summary(found: "Robustness", model: Path) -> Iterator[str]:
    low, high = (percent(end, 2) for end in found.clean.interval)
    yield f"clean accuracy {percent(found.clean.accuracy, 2)} (95% CI: {low} to {high})"
    side = "above" if found.added_error >= 0 else "below"
    yield (
        f"mean accuracy {percent(1 - found.mean_corruption_error, 2)}, mean corruption error "
        f"{percent(found.mean_corruption_error, 2)}, {abs(100 * found.added_error):.2f} points {side} the clean error; "
        "not normalized by AlexNet's"
    )
    worst = (f"{name} {percent(found.families[name].mean_error, 2)}" for name in found.worst)
    yield f"worst corruptions: {', '.join(worst)}"
    seed = "" if found.is_published else f", seed {found.seed}"
    yield f"{found.images:,} of {found.images_in_split:,} test images{seed}, {model_name(model)}"
    if found.is_published:
        yield found.drawing
    else:
        yield "own implementation of the corruptions: not directly comparable with published CIFAR-10-C results"
