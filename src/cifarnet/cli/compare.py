"""``cifarnet compare``: the same training on several backends, side by side."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import UsageError

from .display import download_bar, out, say
from .options import INTERRUPTED, JsonOption, durable

if TYPE_CHECKING:
    from cifarnet.comparison import Comparison, Summary
    from cifarnet.run import EpochRecord
    from cifarnet.spec import Dataset

EPOCHS = 3
"""Trained by default: some minutes for CIFAR-10, and long enough for the curves to part."""


def command(
    backends: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BACKEND]...", help="Two or more of jax, torch, tensorflow; all that are installed."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each training, on the recipe's schedule.", show_default=str(EPOCHS))
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Train to the recipe's own end instead.")] = False,
    seeds: Annotated[int, typer.Option(help="Train each backend with so many seeds, 0 and up.")] = 1,
    data: Annotated[
        str, typer.Option(help="cifar10, synthetic, an archive of CIFAR-10 or a folder of images.")
    ] = "cifar10",
    recipe: Annotated[str, typer.Option(help="Named settings.")] = "seed",
    output: Annotated[
        Path | None, typer.Option(help="New folder for results and runs.", show_default="comparisons/TIME")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the same on several backends, one after the other, and show how alike they come out.

    Writes comparison.json, comparison.png and the runs to one folder. With the defaults, some minutes on CIFAR-10.
    """
    if whole and epochs is not None:
        raise UsageError(f"--whole and --epochs {epochs} contradict each other; expected one of them: leave one out")
    if not data:
        raise UsageError("--data is empty; expected cifar10, synthetic or a path: is the variable set?")
    from cifarnet.backends import installed
    from cifarnet.comparison import Plan, compare_backends, interruptible

    plan = Plan(
        backends=tuple(backends or installed()),
        epochs=None if whole else epochs if epochs is not None else EPOCHS,
        seeds=seeds,
        recipe=recipe,
        source=durable(data),
    )
    folder = output or Path("comparisons") / f"{datetime.now():%Y%m%d-%H%M%S}"
    try:
        with interruptible(), download_bar() as progress:
            found = compare_backends(plan, folder, _tell_epoch, progress=progress, began=_tell_data)
    except KeyboardInterrupt:
        say(f"interrupted; the runs so far are in {folder}")
        sys.exit(INTERRUPTED)
    if as_json:
        out((folder / "comparison.json").read_text().rstrip())
    else:
        _tell(found)
    say(f"Everything is in {folder}")


def _tell_data(dataset: "Dataset") -> None:
    say(f"{dataset.name}, {len(dataset.train):,} training and {len(dataset.test):,} test images")
    say("backend     seed  epoch  train loss  accuracy  valid. loss  accuracy  time")


def _tell_epoch(backend: str, seed: int, record: "EpochRecord", seconds: float) -> None:
    say(
        f"{backend:<10}  {seed:4}  {record.epoch:5}  {record.train_loss:10.4f}  {100 * record.train_accuracy:6.2f} %  "
        f"{record.validation_loss:11.4f}  {100 * record.validation_accuracy:6.2f} %  {seconds:.1f} s"
    )


def _tell(found: "Comparison") -> None:
    out("backend     first loss  validation accuracy      test accuracy            s/epoch  peak memory  its ONNX file")
    for each in found.summaries:
        files = [training for training in found.trainings if training.backend == each.backend]
        agreement = min(training.file_agreement for training in files)
        difference = max(training.file_difference for training in files)
        out(
            f"{each.backend:<10}  {each.first_loss:10.6f}  {_accuracy(found, each, 'validation'):<23}  "
            f"{_accuracy(found, each, 'test'):<23}  {each.seconds_per_epoch:7.1f}  {_memory(each):>11}  "
            f"{100 * agreement:.2f} % the same class, logits within {difference:.0e}"
        )
    out("")
    out("pair                   seed  first loss  gradient  train loss  same class  accuracy          McNemar's p")
    for pair in found.pairs:
        low, high = 100 * pair.difference_interval.low, 100 * pair.difference_interval.high
        out(
            f"{pair.first + ', ' + pair.second:<21}  {pair.seed:4}  {pair.first_loss_difference:10.0e}  "
            f"{pair.gradient_difference:8.0e}  {pair.curve_difference:10.0e}  {100 * pair.agreement:8.2f} %  "
            f"{f'{low:+.2f} to {high:+.2f}':<16}  {pair.p_value:.2g}"
        )
    out("")
    out(found.spread.sentence)


def _accuracy(found: "Comparison", summary: "Summary", part: str) -> str:
    mean, sd = getattr(summary, f"{part}_mean"), getattr(summary, f"{part}_sd")
    if sd is not None:
        return f"{100 * mean:.2f} ± {100 * sd:.2f} %"
    (training,) = (each for each in found.trainings if each.backend == summary.backend)
    interval = getattr(training, part).interval
    return f"{100 * mean:.2f} % ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _memory(summary: "Summary") -> str:
    return "not told" if summary.peak_memory_bytes is None else f"{summary.peak_memory_bytes / 1e6:,.0f} MB"
