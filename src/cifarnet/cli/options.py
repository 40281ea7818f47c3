"""Options shared by several commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cifarnet.dataset import IMAGE_SIZE, LARGEST_IMAGE_SIZE
from cifarnet.errors import UsageError


def filled(name: str, expected: str, kind: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return a parser of the option ``name`` that refuses empty text, which an unset shell variable leaves.

    ``Path("")`` would be the working directory, and ``"" or default`` the default.
    """

    def parse(given: str) -> Any:
        if given == "":
            raise UsageError(f"{name} is empty; expected {expected}: is the variable set?")
        return kind(given)

    return parse


def _no_file(given: str) -> Path:
    path = Path(given)
    if path.is_file():
        raise UsageError(f"--runs is {given}, which is a file; expected a folder of run folders: give another")
    return path


DATA = "cifar10, synthetic or a path"
RUN = "a run folder or its name"
MODEL = "a run folder, its name, a model file, or pretrained"
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder or its name; the latest run by default.",
        show_default=False,
        parser=filled("RUN", RUN),
    ),
]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Model file, exported run or its name, or pretrained; the newest exported run by default.",
        show_default=False,
        parser=filled("MODEL", MODEL),
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        help="jax, torch or tensorflow; overrides KERAS_BACKEND.",
        show_default=False,
        parser=filled("--backend", "jax, torch or tensorflow"),
    ),
]
RunsOption = Annotated[
    Path, typer.Option(help="Folder that contains the runs.", parser=filled("--runs", "a folder", _no_file))
]
MovedDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="New location of the run's images, if they were moved.",
        show_default=False,
        parser=filled("--data", DATA),
    ),
]
IMAGE_SIZE_HELP = (
    f"Height and width in pixels to which the images of a folder are resized, {IMAGE_SIZE} to {LARGEST_IMAGE_SIZE}."
)
ImageSizeOption = Annotated[int, typer.Option("--image-size", help=IMAGE_SIZE_HELP)]
SkipBrokenOption = Annotated[
    bool, typer.Option("--skip-broken", help="Skip image files that cannot be read, instead of stopping.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
TtaOption = Annotated[
    bool,
    typer.Option("--tta", help="Test-time augmentation: average the logits over each image and its mirror image."),
]
OldTtaOption = Annotated[bool, typer.Option("--flip", hidden=True)]
"""Former name of --tta."""
OldMinutesOption = Annotated[float | None, typer.Option("--minutes", hidden=True, min=0)]
"""Former name of --max-minutes."""
