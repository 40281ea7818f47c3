"""Options shared by several commands."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import typer

from cifarnet.dataset import IMAGE_SIZE, LARGEST_IMAGE_SIZE
from cifarnet.errors import UsageError


def require_text(arguments: Iterable[str]) -> None:
    """Raise ``UsageError`` if one of the ``arguments`` of the command line is empty, as an unset variable leaves it.

    ``Path("")`` would be the working directory, and ``"" or default`` the default.
    """
    for before, given in pairwise(["", *arguments]):
        if given == "" or re.fullmatch(r"--[a-z-]+=", given):
            name = given[:-1] or f"the text after {before or 'cifarnet'}"
            raise UsageError(f"{name} is empty; expected a value: is the variable set?")


RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run folder or its name; the latest run by default.")
]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="Model file, exported run or its name, or pretrained; the newest exported run by default."
    ),
]
BackendOption = Annotated[str | None, typer.Option(help="jax, torch or tensorflow; overrides KERAS_BACKEND.")]
RunsOption = Annotated[Path, typer.Option(help="Folder that contains the runs.")]
DATA_HELP = "cifar10, synthetic, a CIFAR-10 archive, or a folder with one subfolder per class."
DataOption = Annotated[str, typer.Option(help=DATA_HELP)]
MovedDataOption = Annotated[
    str | None, typer.Option("--data", help="New location of the run's images, if they were moved.")
]
IMAGE_SIZE_HELP = (
    f"Height and width in pixels to which the images of a folder are resized, {IMAGE_SIZE} to {LARGEST_IMAGE_SIZE}."
)
ImageSizeOption = Annotated[int, typer.Option(help=IMAGE_SIZE_HELP)]
SkipBrokenOption = Annotated[
    bool, typer.Option("--skip-broken", help="Skip image files that cannot be read, instead of stopping.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
TtaOption = Annotated[
    Literal[1, 2, 6],
    typer.Option(
        "--tta",
        help="Test-time augmentation: average the logits over N views. 1: the image; 2: also its horizontal flip; "
        "6: also both of these, translated by one pixel to the upper left and to the lower right.",
    ),
]
