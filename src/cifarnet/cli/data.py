"""``cifarnet data``: bring CIFAR-10 here, and prove that it is CIFAR-10."""

from typing import Annotated

import typer

from cifarnet.contract import printable

from .display import download_bar, out

app = typer.Typer(help="Fetch and verify CIFAR-10.", no_args_is_help=True)


@app.command("fetch")
def fetch_command(
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if it is here.")] = False,
) -> None:
    """Bring CIFAR-10 to the cache unless it is there."""
    from cifarnet.data import fetch

    with download_bar() as progress:
        folder = fetch(force=force, progress=progress)
    out(printable(f"CIFAR-10 is in {folder}"))


@app.command("verify")
def verify_command() -> None:
    """Compare every byte of the cached CIFAR-10 with the official files' SHA-256."""
    from cifarnet.data import verify

    with download_bar() as progress:
        files = verify(progress=progress)
    for file in files:
        out(f"{file.name}  sha256 {file.sha256}  ok")
