"""``cifarnet data``: download and verify CIFAR-10."""

from typing import Annotated

import typer

from cifarnet.errors import printable

from .display import download_bar, out

app = typer.Typer(help="Download or verify CIFAR-10.", no_args_is_help=True)


@app.command("fetch")
def fetch_command(
    force: Annotated[bool, typer.Option("--force", help="Download again even if it is in the cache.")] = False,
) -> None:
    """Download CIFAR-10 to the cache unless it is there."""
    from cifarnet.data import fetch

    with download_bar() as progress:
        folder = fetch(force=force, progress=progress)
    out(printable(f"CIFAR-10 is in {folder}"))


@app.command("verify")
def verify_command() -> None:
    """Verify the SHA-256 of every cached CIFAR-10 file."""
    from cifarnet.data import verify

    with download_bar() as progress:
        files = verify(progress=progress)
    for file in files:
        out(f"{file.name}  sha256 {file.sha256}  ok")
