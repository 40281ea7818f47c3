"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[str | None, typer.Argument(help="Run folder; the latest by default.", show_default=False)]
BackendOption = Annotated[
    str | None, typer.Option(help="jax, torch or tensorflow; wins over KERAS_BACKEND.", show_default=False)
]
RunsOption = Annotated[Path, typer.Option(help="Folder of the run folders.")]
MovedDataOption = Annotated[
    str | None,
    typer.Option("--data", help="Where the run's images are now, if they were moved.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports it."""


def durable(source: str) -> str:
    """Return the name of a data set so that it means the same from another working folder."""
    return source if source in ("cifar10", "synthetic") else str(Path(source).expanduser().absolute())
