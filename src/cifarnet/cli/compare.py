"""``cifarnet compare``: the same training on several backends, side by side."""

import statistics
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import UsageError
from cifarnet.interruption import INTERRUPTED

from .display import download_bar, out, say
from .options import DATA, JsonOption, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifarnet.evaluation.comparison import Comparison, Measured, Training
    from cifarnet.run_folder import EpochRecord

EPOCHS = 3
"""Trained by default: some minutes for CIFAR-10, and long enough for the curves to part."""


def command(
    backends: Annotated[
        list[str] | None,
        typer.Argument(metavar="BACKEND", help="Two or more of jax, torch, tensorflow; all that are installed."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each training, on the recipe's schedule.", show_default=str(EPOCHS))
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Train to the recipe's own end instead.")] = False,
    seeds: Annotated[int, typer.Option(help="Train each backend with so many seeds, 0 and up.")] = 1,
    data: Annotated[
        str,
        typer.Option(
            help="cifar10, synthetic, an archive of CIFAR-10 or a folder of images.", parser=filled("--data", DATA)
        ),
    ] = "cifar10",
    recipe: Annotated[str, typer.Option(help="Named settings.", parser=filled("--recipe", "its name"))] = "seed",
    output: Annotated[
        Path | None,
        typer.Option(
            help="New folder for results and runs.",
            show_default="comparisons/TIME",
            parser=filled("--output", "a folder", Path),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the same on several backends, one after the other, and show how alike they come out.

    Writes comparison.json, comparison.png and the runs to one folder. With the defaults, some minutes on CIFAR-10.
    """
    if whole and epochs is not None:
        raise UsageError(f"--whole and --epochs {epochs} contradict each other; expected one of them: leave one out")
    from cifarnet.backends import installed
    from cifarnet.contract import durable
    from cifarnet.data import open_dataset
    from cifarnet.evaluation.comparison import Plan, compare_backends, interruptible

    plan = Plan(
        backends=tuple(backends or installed()),
        epochs=None if whole else epochs if epochs is not None else EPOCHS,
        seeds=seeds,
        recipe=recipe,
        source=durable(data),
    )
    folder = output or Path("comparisons") / f"{datetime.now():%Y%m%d-%H%M%S}"
    with download_bar() as progress:
        dataset = open_dataset(plan.source, progress=progress)
    say(f"{dataset.name}, {len(dataset.train):,} training and {len(dataset.test):,} test images")
    train = plan.job(dataset, seed=0).train
    say(
        f"recipe {recipe}: up to epoch {train.epochs:,} on a schedule of {train.schedule_epochs:,} epochs, "
        f"in batches of {train.batch_size:,}"
    )
    say(HEADER)
    try:
        with interruptible():
            found = compare_backends(plan, dataset, folder, _tell_epoch)
    except KeyboardInterrupt:
        say(f"interrupted; the runs so far are in {folder}")
        sys.exit(INTERRUPTED)
    if as_json:
        out((folder / "comparison.json").read_text(encoding="utf-8").rstrip())
    else:
        _tell(found)
    say(f"Everything is in {folder}")


HEADER = "backend     seed  epoch  train loss  accuracy  valid. loss  accuracy     time"


def _tell_epoch(backend: str, seed: int, record: "EpochRecord", seconds: float) -> None:
    say(
        f"{backend:<10}  {seed:4}  {record.epoch:5}  {record.train_loss:10.4f}  {100 * record.train_accuracy:6.2f} %  "
        f"{record.validation_loss:11.4f}  {100 * record.validation_accuracy:6.2f} %  {seconds:5.1f} s"
    )


def _tell(found: "Comparison") -> None:
    out("backend     valid. accuracy  test accuracy            s/epoch    memory  ONNX file")
    for backend in found.plan.backends:
        trainings = found.of(backend)
        seconds = statistics.median(each.seconds_per_epoch for each in trainings)
        file_agreement = min(each.file_agreement for each in trainings)
        out(
            f"{backend:<10}  {_accuracy([each.validation for each in trainings]):<15}  {_test(trainings):<23}  "
            f"{seconds:7.1f}  {_memory(trainings):>8}  {100 * file_agreement:7.2f} %"
        )
    out("")
    out("differences        seed  first loss  gradient  train loss  same class  McNemar's p")
    for pair in found.pairs:
        out(
            f"{pair.first + ', ' + pair.second:<17}  {pair.seed:4}  {_size(pair.first_loss_difference):>10}  "
            f"{_size(pair.gradient_difference):>8}  {_size(pair.curve_difference):>10}  {100 * pair.agreement:8.2f} %  "
            f"{pair.p_value:11.2g}"
        )


def _size(difference: float) -> str:
    return f"{difference:.0e}" if difference else "0"


def _accuracy(scores: "Sequence[Measured]") -> str:
    """Return the mean accuracy over the seeds, and the standard deviation (n - 1) where there are several."""
    accuracies = [100 * each.accuracy for each in scores]
    mean = statistics.fmean(accuracies)
    return f"{mean:.2f} %" if len(accuracies) < 2 else f"{mean:.2f} ± {statistics.stdev(accuracies):.2f} %"


def _test(trainings: "Sequence[Training]") -> str:
    """Return the test accuracy, with its interval where it is of one training."""
    told = _accuracy([each.test for each in trainings])
    if len(trainings) > 1:
        return told
    interval = trainings[0].test.interval
    return f"{told} ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _memory(trainings: "Sequence[Training]") -> str:
    largest = max((each.peak_memory_bytes or 0 for each in trainings), default=0)
    return f"{largest / 1e6:,.0f} MB" if largest else "not told"
