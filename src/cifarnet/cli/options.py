"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

BackendOption = Annotated[
    str | None, typer.Option(help="jax, torch or tensorflow; wins over KERAS_BACKEND.", show_default=False)
]
RunsOption = Annotated[Path, typer.Option(help="Folder of the run folders.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
