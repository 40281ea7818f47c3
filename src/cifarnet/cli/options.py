"""Options that several commands share, and what every option with a text has in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cifarnet.errors import UsageError


def filled(name: str, expected: str, kind: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return the parser of an option or argument called ``name``, which refuses the text that an unset variable leaves.

    To ``Path`` that text would be the working folder, and to ``or`` the same as no option at all.
    """

    def text(given: str) -> Any:
        if given == "":
            raise UsageError(f"{name} is empty; expected {expected}: is the variable set?")
        return kind(given)

    return text


def _no_file(given: str) -> Path:
    path = Path(given)
    if path.is_file():
        raise UsageError(f"--runs is {given}, which is a file; expected a folder of run folders: give another")
    return path


DATA = "cifar10, synthetic or a path"
RUN = "a run folder or its name"
SUBJECT = "a run folder, its name, or a model file"
RunArgument = Annotated[
    str | None,
    typer.Argument(help="Run folder; the latest by default.", show_default=False, parser=filled("RUN", RUN)),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        help="jax, torch or tensorflow; wins over KERAS_BACKEND.",
        show_default=False,
        parser=filled("--backend", "jax, torch or tensorflow"),
    ),
]
RunsOption = Annotated[
    Path, typer.Option(help="Folder of the run folders.", parser=filled("--runs", "a folder", _no_file))
]
MovedDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Where the run's images are now, if they were moved.",
        show_default=False,
        parser=filled("--data", DATA),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
