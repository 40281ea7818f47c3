"""``cifarnet data``: download and verify CIFAR-10, check an image folder, and the cache of decoded images."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.arguments import expanded
from cifarnet.errors import UsageError, counted, shell_word

from .display import download_bar, out_answer, out_lines, say, shortened, table
from .notes import by_extension
from .options import JsonOption

if TYPE_CHECKING:
    from cifarnet.data.folder_report import FolderReport

SHOWN = 8
"""Maximum number of names or groups per list. Broken files are all printed, and --json has everything."""

app = typer.Typer(
    help="Download or verify CIFAR-10, check an image folder, or show or clear the cache of decoded images.",
    no_args_is_help=True,
)


@app.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(help="Folder of class folders.", metavar="DIR")],
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Accept the folder even if some image files cannot be read.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet", metavar="FILE.png", help="Also write a PNG file with some images of each class."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Report on an image folder without training: classes, sizes, broken files, copies and more.

    The exit code is 0 if `cifarnet train --data DIR` would accept the folder, otherwise 1.
    """
    from cifarnet.atomic import require_writable, write_atomically
    from cifarnet.data.folder_report import check_folder
    from cifarnet.run.origin import require_outside

    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise UsageError(f"--contact-sheet is {sheet}; expected a name that ends in .png: give another")
        require_outside(sheet.parent, str(folder), "--contact-sheet")
        require_writable(sheet)
        from cifarnet.data.contact_sheet import require_replaceable  # Pillow, which is slow to import

        require_replaceable(sheet)
    with download_bar() as progress:
        checked = check_folder(expanded(folder), progress, skip_broken=skip_broken)
    report = checked.report
    if sheet is not None:
        from cifarnet.data.contact_sheet import contact_sheet

        write_atomically(sheet, contact_sheet(checked.split, checked.labels))
        say(f"the contact sheet is {sheet}")
    out_answer(report.to_json(), _lines(report, skip_broken=skip_broken), as_json=as_json)
    sys.exit(0 if report.fault is None else 1)


def _lines(report: "FolderReport", *, skip_broken: bool) -> Iterator[str]:
    yield f"{report.folder}: {counted(report.images, 'image')} of {len(report.classes)} classes"
    parts = next(iter(report.classes.values())).keys()
    head = ("class", *(("images",) if list(parts) == ["all"] else parts))
    yield from table(
        head, [(shortened(name), *map("{:,}".format, each.values())) for name, each in report.classes.items()]
    )
    if report.sizes is not None:
        yield "sizes: " + ", ".join(f"{name} {w}x{h}" for name, (w, h) in report.sizes.items())
    yield from _notes(report)
    if report.fault is None:
        yield f"usable: cifarnet train --data {shell_word(report.folder)}{' --skip-broken' * skip_broken}"
    else:
        yield f"not usable: {report.fault}"


def _notes(report: "FolderReport") -> Iterator[str]:
    if report.unequal:
        yield "the largest class has more than three times the images of the smallest one"
    if report.others:
        yield f"files that are not read, by extension: {by_extension(report.others)}"
    yield from _listed("links to folders, which are not followed", report.linked_folders)
    yield from _listed("images beside the class folders, which have no class and are not read", report.unlabeled)
    yield from _listed("files that cannot be read", (f"{each.name} ({each.reason})" for each in report.broken), None)
    if report.copies:
        copies = sum(len(group) - 1 for group in report.copies)
        across = f", {report.copies_across_classes} in several classes" if report.copies_across_classes else ""
        yield from _listed(f"copies (the same pixels): {copies:,}{across}", map(" = ".join, report.copies))
    if report.crossing:
        is_split = any("test" in parts for parts in report.classes.values())
        sides = "" if is_split else " in a random split; cifarnet keeps all copies on one side"
        yield f"copies across training and test images: {report.crossing:,}{sides}"
    yield from _listed("near-copies (the same 8x8 average hash)", map(" = ".join, report.near_copies))
    yield from _listed("images of nearly one color", report.flat)
    yield from _listed("of these with 16 bits, whose low bytes are not used", report.narrow)


def _listed(title: str, names: Iterable[str], most: int | None = SHOWN) -> Iterator[str]:
    names = list(names)
    if names:
        yield f"{title}{'' if ':' in title else f': {len(names):,}'}"
        yield from (f"  {name}" for name in names[:most])
        if most is not None and len(names) > most:
            yield f"  … and {len(names) - most:,} more, see --json"


@app.command("fetch")
def fetch_command(
    force: Annotated[bool, typer.Option("--force", help="Download again even if it is in the cache.")] = False,
) -> None:
    """Download CIFAR-10 to the cache unless it is there."""
    from cifarnet.data import fetch

    with download_bar() as progress:
        folder = fetch(force=force, progress=progress)
    out_lines([f"CIFAR-10 is in {folder}"])


@app.command("verify")
def verify_command() -> None:
    """Verify the SHA-256 of every cached CIFAR-10 file."""
    from cifarnet.data import verify

    with download_bar() as progress:
        files = verify(progress=progress)
    out_lines(f"{name}  sha256 {sha256}  ok" for name, sha256 in files.items())


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
    place = cache_folder() / FOLDER
    folders = [asdict(each) | {"path": str(each.path)} for each in found]
    size = f"{sum(each.size_bytes for each in found) / 1e6:,.1f} MB"
    rows = [
        (each.folder, f"{each.images:,}", f"{each.height}x{each.width}", f"{each.size_bytes / 1e6:,.1f}")
        for each in found
    ]
    lines = [f"{f'deleted {size} from' if clear else f'{size} in'} {place}"]
    lines += table(("folder", "images", "size", "MB"), rows) if rows else []
    out_answer({"cache": str(place), "cleared": clear, "folders": folders}, lines, as_json=as_json)
