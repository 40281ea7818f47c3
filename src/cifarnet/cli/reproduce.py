"""``cifarnet reproduce``: repeat a run from its record, and say whether the same came out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.contract import printable
from cifarnet.errors import RunError
from cifarnet.interruption import INTERRUPTED

from .display import TrainingDisplay, download_bar, out, say
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption, filled

if TYPE_CHECKING:
    from cifarnet.evaluation.reproduce import Difference, Reproduction


def command(
    run: RunArgument = None,
    epochs: Annotated[
        int | None, typer.Option(help="Repeat the first epochs alone, on the run's own schedule.", show_default="all")
    ] = None,
    backend: BackendOption = None,
    data: MovedDataOption = None,
    runs: RunsOption = Path("runs"),
    output: Annotated[
        Path, typer.Option(help="Folder for the repeated run's folder.", parser=filled("--output", "a folder", Path))
    ] = Path("reproductions"),
    as_json: JsonOption = False,
) -> None:
    """Repeat a run from its record and say whether it is bit-equal, equal within rounding noise, or diverged.

    Ends with exit code 1 when it diverged. It trains on the run's own backend unless --backend names another, from
    which equal bits are not expected.
    """
    from cifarnet.backends import choose
    from cifarnet.evaluation.reproduce import planned_epochs, reproduce
    from cifarnet.run_folder import json_text

    from .runs import recorded_run

    found = recorded_run(runs, run)
    record = found.read_record()
    rows, _ = planned_epochs(found, epochs)
    name = choose(backend or record.backend)
    say(f"backend {name}, repeating {rows} epoch{'s' * (rows != 1)} of {found}, seed {record.seed}")
    with download_bar() as progress:
        dataset = record.origin.open_dataset(data, progress)
    from cifarnet.training.interrupt import stop_on_signal  # Keras, now that its framework is chosen

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
        _tell(result, str(found))
    sys.exit(1 if result.outcome == "diverged" else 0)


def _tell(result: "Reproduction", original: str) -> None:
    out(printable(_sentence(result, original)))
    for change in result.changes:
        out(printable(f"  {change}"))
    if not result.changes:
        expected = "" if result.outcome == "bit-equal" else ", so that equal bits were expected"
        out(f"  backend, versions and machine are the same{expected}")
    say(f"The repeated run is in {result.run}")


def _sentence(result: "Reproduction", original: str) -> str:
    compared = f"{result.epochs} of {result.recorded_epochs} epochs"
    if result.outcome == "bit-equal":
        weights = "and the best weights " if result.weights_equal else ""
        return f"bit-equal: {compared} {weights}came out the same, bit for bit"
    if result.ending and (result.first is None or result.first.explained):
        same = "came out the same" if result.first is None else "came out within noise"
        return f"diverged: {compared} {same}, and then the repetition {result.ending}: --epochs compares a part alone"
    if result.first is None:
        return f"diverged: {compared} came out the same, but the best weights did not: was {original} changed since?"
    first = f"differs first in {_of(result.first)}"
    if result.outcome == "within noise":
        return f"equal within noise: {compared}, no figure further off than rounding explains; {first}"
    assert result.unexplained is not None
    if not result.noise_known:
        return (
            f"diverged: {compared}; {first}; how far rounding goes was measured for the recipe seed on CIFAR-10 alone"
        )
    told = f"diverged: {compared}; more than rounding explains in {_of(result.unexplained)}"
    return told if result.first == result.unexplained else f"{told}; {first}"


def _of(difference: "Difference") -> str:
    bound = "" if difference.noise is None else f" (noise up to {difference.noise:.2g})"
    return (
        f"epoch {difference.epoch}, {difference.column}: {difference.repeated:.7g} instead of "
        f"{difference.recorded:.7g}, {difference.size:.1e} apart{bound}"
    )
