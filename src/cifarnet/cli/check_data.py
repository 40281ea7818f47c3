"""``cifarnet data check``: report on an image folder without training."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.errors import UsageError, counted, printable, shell_word

from .dataset_notes import by_extension
from .display import download_bar, out, say, shortened
from .options import JsonOption, filled
from .tables import table

if TYPE_CHECKING:
    from cifarnet.data.check import FolderReport

SHOWN = 8
"""Maximum number of names or groups per list. Broken files are all printed, and --json has everything."""


def command(
    folder: Annotated[
        Path, typer.Argument(help="Folder of class folders.", parser=filled("DIR", "a folder", Path), metavar="DIR")
    ],
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Accept the folder even if some image files cannot be read.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            metavar="FILE.png",
            help="Also write a PNG file with some images of each class.",
            show_default=False,
            parser=filled("--contact-sheet", "a file name", Path),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Report on an image folder without training: classes, sizes, broken files, copies and more.

    The exit code is 0 if `cifarnet train --data DIR` would accept the folder, otherwise 1.
    """
    from cifarnet.atomic import require_writable, write_atomically
    from cifarnet.data.check import check_folder
    from cifarnet.run.origin import require_outside

    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise UsageError(f"--contact-sheet is {sheet}; expected a name that ends in .png: give another")
        require_outside(sheet.parent, str(folder), "--contact-sheet")
        require_writable(sheet)
    with download_bar() as progress:
        checked = check_folder(folder.expanduser(), progress, skip_broken=skip_broken)
    report = checked.report
    if sheet is not None:
        from cifarnet.data.contact_sheet import contact_sheet

        write_atomically(sheet, contact_sheet(checked.split, checked.labels))
        say(f"the contact sheet is {sheet}")
    lines = map(printable, _lines(report, skip_broken=skip_broken))
    out(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(lines))
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
    yield from _listed("files that cannot be read", (f"{each.name} ({each.reason})" for each in report.broken), None)
    if report.copies:
        copies = sum(len(group) - 1 for group in report.copies)
        across = f", {report.copies_across_classes} in several classes" if report.copies_across_classes else ""
        yield from _listed(f"copies (the same pixels): {copies:,}{across}", map(" = ".join, report.copies))
    if report.crossing:
        yield f"copies across training and test images: {report.crossing:,}{_sides(report)}"
    yield from _listed("near-copies (the same 8x8 average hash)", map(" = ".join, report.near_copies))
    yield from _listed("images of nearly one color", report.flat)
    yield from _listed("of these with 16 bits, whose low bytes are not used", report.narrow)


def _sides(report: "FolderReport") -> str:
    is_split = any("test" in parts for parts in report.classes.values())
    return "" if is_split else " in a random split; cifarnet keeps all copies on one side"


def _listed(title: str, names: Iterable[str], most: int | None = SHOWN) -> Iterator[str]:
    """Yield the title and the names, at most ``most`` of them."""
    names = list(names)
    if names:
        yield f"{title}{'' if ':' in title else f': {len(names):,}'}"
        yield from (f"  {name}" for name in names[:most])
        if most is not None and len(names) > most:
            yield f"  … and {len(names) - most:,} more, see --json"
