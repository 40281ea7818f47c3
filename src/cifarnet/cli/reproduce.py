"""``cifarnet reproduce``: repeat a run and compare the results."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import RunError, counted
from cifarnet.interrupt import INTERRUPTED, stop_on_signal

from .display import TrainingDisplay, download_bar, out_answer, say
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption
from .runs import recorded_run

if TYPE_CHECKING:
    from cifarnet.evaluation.reproduce import Difference, Reproduction


def command(
    run: RunArgument = None,
    epochs: Annotated[
        int | None, typer.Option(help="Repeat only the first epochs, on the run's schedule.", show_default="all")
    ] = None,
    backend: BackendOption = None,
    data: MovedDataOption = None,
    runs: RunsOption = Path("runs"),
    output: Annotated[Path, typer.Option(help="Folder in which to create the repeated run.")] = Path("reproductions"),
    as_json: JsonOption = False,
) -> None:
    """Repeat a run and report whether it is bit-equal, equal within rounding noise, or diverged.

    Exits with code 1 if it diverged. Trains on the run's backend; with another --backend, the result is not expected to
    be bit-equal.
    """
    from cifarnet.backends import choose
    from cifarnet.evaluation.reproduce import planned_epochs, reproduce

    found = recorded_run(runs, run)
    record = found.record
    rows, _ = planned_epochs(found, epochs)
    name = choose(backend or record.backend)
    say(f"backend {name}, repeating {counted(rows, 'epoch')} of {found}, seed {record.seed}")
    with download_bar() as progress:
        dataset = record.origin.load_dataset(data, progress)
    with stop_on_signal() as stop, TrainingDisplay() as display:
        try:
            result = reproduce(found, dataset, output, display, epochs=epochs, stop=lambda: bool(stop))
        except RunError as error:
            if not stop:
                raise
            say(f"interrupted: {error}")
            sys.exit(INTERRUPTED)
    out_answer(asdict(result), _lines(result, str(found)), as_json=as_json)
    say(f"The repeated run is in {result.run}")
    sys.exit(1 if result.outcome == "diverged" else 0)


def _lines(result: "Reproduction", original: str) -> Iterator[str]:
    yield _sentence(result, original)
    yield from (f"  {change}" for change in result.changes)
    if not result.changes:
        expected = "" if result.outcome == "bit-equal" else ", so bit-equality was expected"
        yield f"  same backend, versions and machine{expected}"


def _sentence(result: "Reproduction", original: str) -> str:
    compared = f"{result.epochs} of {result.recorded_epochs} epochs"
    if result.outcome == "bit-equal":
        weights = "and the best weights " if result.weights_equal else ""
        return f"bit-equal: {compared} {weights}are identical"
    if result.ending and (result.first is None or result.first.explained):
        same = "are identical" if result.first is None else "agree within noise"
        return f"diverged: {compared} {same}, then the repetition {result.ending}; compare fewer with --epochs"
    if result.first is None:
        return f"diverged: {compared} are identical, but the best weights differ: was {original} changed since?"
    first = f"first difference: {_description(result.first)}"
    if result.outcome == "within noise":
        return f"equal within noise: {compared}, every difference is within rounding noise; {first}"
    assert result.unexplained is not None
    if not result.noise_known:
        return f"diverged: {compared}; {first}; rounding noise is only known for the recipe seed on CIFAR-10"
    text = f"diverged: {compared}; beyond rounding noise: {_description(result.unexplained)}"
    return text if result.first == result.unexplained else f"{text}; {first}"


def _description(difference: "Difference") -> str:
    bound = "" if difference.noise is None else f" (noise up to {difference.noise:.2g})"
    return (
        f"epoch {difference.epoch}, {difference.column}: {difference.repeated:.7g} instead of "
        f"{difference.recorded:.7g}, difference {difference.size:.1e}{bound}"
    )
