"""``cifarnet data``: download and verify CIFAR-10, and the cache of decoded images."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cifarnet.errors import printable

from . import check_data
from .display import download_bar, out
from .options import JsonOption
from .tables import table

app = typer.Typer(help="Download or verify CIFAR-10, check an image folder, or show its cache.", no_args_is_help=True)
app.command("check")(check_data.command)


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
    for name, sha256 in files.items():
        out(f"{name}  sha256 {sha256}  ok")


@app.command("cache")
def cache_command(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the decoded images, but not CIFAR-10.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show or clear the cache of decoded images."""
    from cifarnet.data import cache_folder
    from cifarnet.data.image_cache import FOLDER, cached_folders, clear_cached_folders

    found = cached_folders()
    if clear:
        clear_cached_folders()
    if as_json:
        folders = [asdict(each) | {"path": str(each.path)} for each in found]
        out(json.dumps({"cache": str(cache_folder() / FOLDER), "cleared": clear, "folders": folders}, indent=2))
        return
    size = f"{sum(each.size_bytes for each in found) / 1e6:,.1f} MB"
    out(printable(f"{f'deleted {size} from' if clear else f'{size} in'} {cache_folder() / FOLDER}"))
    rows = [
        (each.folder, f"{each.images:,}", f"{each.height}x{each.width}", f"{each.size_bytes / 1e6:,.1f}")
        for each in found
    ]
    if rows:
        out("\n".join(table(("folder", "images", "size", "MB"), rows)))
