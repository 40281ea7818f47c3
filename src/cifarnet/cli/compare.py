"""``cifarnet compare``: train the same model on several backends and compare the results."""

import statistics
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.dataset import IMAGE_SIZE
from cifarnet.errors import UsageError
from cifarnet.recipes import RECIPES

from .display import download_bar, out, out_lines, percent, say, table
from .notes import recipe_label, say_left_out
from .options import DataOption, ImageSizeOption, JsonOption, SkipBrokenOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifarnet.evaluation.comparison.compare import Comparison, ScoreWithInterval, Training
    from cifarnet.run.folder import EpochRecord

EPOCHS = 3
"""Default number of epochs: a few minutes on CIFAR-10, long enough for the curves to diverge."""


def command(
    backends: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BACKEND", help="Two or more of jax, torch, tensorflow; by default all that are installed."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs per training, on the recipe's schedule.", show_default=str(EPOCHS), min=1)
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Train for all epochs of the recipe instead.")] = False,
    seeds: Annotated[int, typer.Option(help="Number of seeds per backend, starting at 0.", min=1)] = 1,
    data: DataOption = "cifar10",
    image_size: ImageSizeOption = IMAGE_SIZE,
    skip_broken: SkipBrokenOption = False,
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help=f"One of {', '.join(RECIPES)}, or a recipe file.")
    ] = "seed",
    output: Annotated[
        Path | None, typer.Option(help="New folder for the results and runs.", show_default="comparisons/TIME")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the same model on several backends and compare the results.

    Writes comparison.json, comparison.png and the runs to one folder. The defaults take a few minutes on CIFAR-10.
    """
    if whole and epochs is not None:
        raise UsageError(f"--whole and --epochs {epochs} contradict each other; expected one of them: leave one out")
    from cifarnet.backends import installed
    from cifarnet.data import load_dataset
    from cifarnet.dataset import durable
    from cifarnet.evaluation.comparison.compare import Plan, compare_backends

    plan = Plan(
        backends=tuple(backends or installed()),
        epochs=None if whole else epochs if epochs is not None else EPOCHS,
        seeds=seeds,
        recipe=recipe,
        source=durable(data),
    )
    folder = output or Path("comparisons") / f"{datetime.now():%Y%m%d-%H%M%S}"
    with download_bar() as progress:
        dataset = load_dataset(plan.source, image_size=image_size, progress=progress, skip_broken=skip_broken)
    say_left_out(dataset)
    say(f"{dataset.name}, {len(dataset.train):,} training and {len(dataset.test):,} test images")
    train = plan.settings(dataset, seed=0).train
    say(
        f"recipe {recipe_label(recipe)}: up to epoch {train.epochs:,} on a schedule of {train.schedule_epochs:,} "
        f"epochs, in batches of {train.batch_size:,}"
    )
    say(f"runs and results go to {folder}")
    say(HEADER)
    found = compare_backends(plan, dataset, folder, _print_epoch)
    if as_json:
        out((folder / "comparison.json").read_text(encoding="utf-8").rstrip())
    else:
        _print_result(found)
    say(f"Results are in {folder}")


HEADER = "backend     seed  epoch  train loss  accuracy  valid. loss  accuracy     time"


def _print_epoch(backend: str, seed: int, record: "EpochRecord", seconds: float) -> None:
    say(
        f"{backend:<10}  {seed:4}  {record.epoch:5}  {record.train_loss:10.4f}  {100 * record.train_accuracy:7.2f}%  "
        f"{record.validation_loss:11.4f}  {100 * record.validation_accuracy:7.2f}%  {seconds:5.1f} s"
    )


def _print_result(found: "Comparison") -> None:
    rows = []
    for backend in found.plan.backends:
        trainings = found.of(backend)
        seconds = statistics.median(each.seconds_per_epoch for each in trainings)
        agreement = percent(min(each.file_agreement for each in trainings), 2)
        validation = _accuracy([each.validation for each in trainings])
        rows.append((backend, validation, _test(trainings), f"{seconds:.1f}", _memory(trainings), agreement))
    head = ("backend", "valid. accuracy", "test accuracy", "s/epoch", "peak memory", "ONNX agreement")
    out_lines([*table(head, rows, texts=3), ""])
    pairs = [
        (
            f"{pair.first}, {pair.second}",
            str(pair.seed),
            _size(pair.first_loss_difference),
            _size(pair.gradient_difference),
            _size(pair.curve_difference),
            percent(pair.agreement, 2),
            f"{pair.p_value:.2g}",
        )
        for pair in found.pairs
    ]
    titles = ("differences", "seed", "first loss", "gradient", "train loss", "agreement", "McNemar's p")
    out_lines(table(titles, pairs))


def _size(difference: float) -> str:
    return f"{difference:.0e}" if difference else "0"


def _accuracy(scores: "Sequence[ScoreWithInterval]") -> str:
    """Return the mean accuracy over the seeds, with the sample standard deviation if there are several."""
    accuracies = [100 * each.accuracy for each in scores]
    mean = statistics.fmean(accuracies)
    return f"{mean:.2f}%" if len(accuracies) < 2 else f"{mean:.2f} ± {statistics.stdev(accuracies):.2f}%"


def _test(trainings: "Sequence[Training]") -> str:
    accuracy = _accuracy([each.test for each in trainings])
    if len(trainings) > 1:
        return accuracy
    interval = trainings[0].test.interval
    return f"{accuracy} ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _memory(trainings: "Sequence[Training]") -> str:
    largest = max((each.peak_memory_bytes or 0 for each in trainings), default=0)
    return f"{largest / 1e6:,.0f} MB" if largest else "unknown"
