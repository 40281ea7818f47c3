"""``cifarnet robustness``: accuracy of an exported model on corrupted images."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.errors import UsageError, printable, shown

from .dataset_notes import say_left_out
from .display import download_bar, image_bar, out, say, say_not_known
from .options import DATA, JsonOption, ModelArgument, RunsOption, SkipBrokenOption, filled
from .runs import exported_model, model_name, newest_exported_run, recorded_run
from .tables import percent, table

if TYPE_CHECKING:
    from cifarnet.dataset import Dataset
    from cifarnet.evaluation.robustness import FamilyResult, Robustness
    from cifarnet.run.folder import Run


def command(
    model: ModelArgument = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset whose test images are corrupted.",
            show_default="that of the run",
            parser=filled("--data", DATA),
        ),
    ] = None,
    cifar10c: Annotated[
        Path | None,
        typer.Option(
            "--cifar10c",
            metavar="DIR",
            help="Evaluate on the published CIFAR-10-C arrays in this folder instead.",
            show_default=False,
            parser=filled("--cifar10c", "a folder of .npy files", Path),
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Use every test image instead of 2,000.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the image subset and the corruptions.")] = 0,
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
    from cifarnet.evaluation.corruptions.published import open_published
    from cifarnet.evaluation.robustness import DEFAULT_IMAGES, measure_robustness
    from cifarnet.runtime import open_model, read_model

    path, run = _model_and_run(model, runs)
    content, _ = read_model(path)
    dataset, scored = _open_images(path, run, data, skip_broken=skip_broken)
    stored = run.path / (PUBLISHED_ROBUSTNESS if cifar10c else ROBUSTNESS) if run and scored["same_as_run"] else None
    if stored:
        require_writable(stored)  # before a minute of measuring
        if stored.exists():
            say(f"note: the results in {shown(stored)} will be replaced")
    published = open_published(cifar10c, dataset) if cifar10c else None
    with _progress(tuple(published.families) if published else FAMILIES) as advance:
        found = measure_robustness(
            open_model(content, threads=0),
            dataset.test,
            sha256=hashlib.sha256(content).hexdigest(),
            images=len(dataset.test) if every else DEFAULT_IMAGES,
            seed=seed,
            published=published,
            advance=advance,
        )
    record = json.dumps(found.to_json() | {"data": scored}, indent=2, allow_nan=False)
    try:
        out(record if as_json else _text(found, path))
    finally:  # if printing fails, the results are still stored
        if stored:
            write_atomically(stored, (record + "\n").encode())
    if run and not stored:
        say(f"{dataset.name} is not the dataset of {run}: the results are not stored in its folder")


def _model_and_run(name: str | None, runs: Path) -> "tuple[Path, Run | None]":
    """Return the model file to evaluate, and its run unless ``name`` is a file."""
    from cifarnet import pretrained
    from cifarnet.run.find import names_file
    from cifarnet.run.folder import LATEST

    if name == pretrained.NAME:
        return pretrained.MODEL, None
    if name and names_file(name):
        return Path(name), None
    run = newest_exported_run(runs) if name in (None, LATEST) else None
    run = run or recorded_run(runs, name)
    return exported_model(run), run


def _open_images(
    path: Path, run: "Run | None", data: str | None, *, skip_broken: bool
) -> "tuple[Dataset, dict[str, Any]]":
    """Return the dataset whose test split is evaluated, and its description for the JSON document."""
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
    """Yield a callback per family and severity: a progress bar on a terminal, a line per family elsewhere."""
    from cifarnet.evaluation.corruptions import SEVERITIES

    if sys.stderr.isatty():
        with image_bar(1 + len(families) * len(SEVERITIES)) as advance:
            yield lambda *_: advance()
    else:
        yield lambda family, severity: say(family) if severity in (0, SEVERITIES[-1]) else None


def _text(found: "Robustness", model: Path) -> str:
    lines = _accuracies(found.families, "accuracy, % at severity")
    if found.extra:
        lines += ["", *_accuracies(found.extra, "additional corruptions")]
    return "\n".join([*lines, "", *map(printable, _summary(found, model))])


def _accuracies(families: "Sequence[FamilyResult]", title: str) -> list[str]:
    from cifarnet.evaluation.corruptions import SEVERITIES

    rows = [
        [each.name, *(f"{100 * accuracy:.2f}" for accuracy in (*each.accuracies, 1 - each.mean_error))]
        for each in families
    ]
    return table((title, *map(str, SEVERITIES), "mean"), rows)


def _summary(found: "Robustness", model: Path) -> Iterator[str]:
    low, high = percent(found.clean.interval.low, 2), percent(found.clean.interval.high, 2)
    yield f"clean accuracy {percent(found.clean.accuracy, 2)} (95% CI: {low} to {high})"
    side = "above" if found.added_error >= 0 else "below"
    yield (
        f"mean accuracy {percent(1 - found.mean_corruption_error, 2)}, mean corruption error "
        f"{percent(found.mean_corruption_error, 2)}, {abs(100 * found.added_error):.2f} points {side} the clean error; "
        "not normalized by AlexNet's"
    )
    yield f"worst corruptions: {', '.join(f'{each.name} {percent(each.mean_error, 2)}' for each in found.worst)}"
    seed = "" if found.is_published else f", seed {found.seed}"
    yield f"{found.clean.images:,} of {found.images_in_split:,} test images{seed}, {model_name(model)}"
    if found.is_published:
        yield found.drawing
    else:
        yield "own implementation of the corruptions: not directly comparable with published CIFAR-10-C results"
