"""``cifarnet reproduce``: repeat a run and compare the results."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import RunError, printable
from cifarnet.interrupt import INTERRUPTED, stop_on_signal

from .display import TrainingDisplay, download_bar, out, say
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption, filled

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
    output: Annotated[
        Path,
        typer.Option(help="Folder in which to create the repeated run.", parser=filled("--output", "a folder", Path)),
    ] = Path("reproductions"),
    as_json: JsonOption = False,
) -> None:
    """Repeat a run and report if it is bit-equal, equal within rounding noise, or diverged.

    Exits with code 1 if it diverged. Trains on the run's backend; with another --backend, the result is not expected to
    be bit-equal.
    """
    from cifarnet.backends import choose
    from cifarnet.evaluation.reproduce import planned_epochs, reproduce
    from cifarnet.run.typed_json import json_text

    from .runs import recorded_run

    found = recorded_run(runs, run)
    record = found.record
    rows, _ = planned_epochs(found, epochs)
    name = choose(backend or record.backend)
    say(f"backend {name}, repeating {rows} epoch{'s' * (rows != 1)} of {found}, seed {record.seed}")
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
    if as_json:
        out(json_text(result.to_json()))
    else:
        _print_result(result, str(found))
    sys.exit(1 if result.outcome == "diverged" else 0)


def _print_result(result: "Reproduction", original: str) -> None:
    out(printable(_sentence(result, original)))
    for change in result.changes:
        out(printable(f"  {change}"))
    if not result.changes:
        expected = "" if result.outcome == "bit-equal" else ", so bit-equality was expected"
        out(f"  same backend, versions and machine{expected}")
    say(f"The repeated run is in {result.run}")


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
