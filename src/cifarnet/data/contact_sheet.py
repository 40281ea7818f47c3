"""A picture of a folder: one row of images per class, in the size in which a model sees them."""

import io
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from cifarnet.dataset import Split
from cifarnet.errors import UsageError, printable

from .class_files import composed
from .splits import evenly_chosen

_COLUMNS = 16
"""Maximum number of images of a class, evenly chosen."""
_MOST_ROWS = 100
"""Maximum number of classes."""
_CELL, _GAP, _TITLE, _LETTERS = 64, 4, 14, 10
"""Side of an image on the sheet, space between two, and height of the line above a row and of its font, in pixels."""
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

_MARK = ("Software", "cifarnet data check")
"""Key and text in the PNG metadata of a contact sheet, which identify it as one."""


def require_replaceable(path: Path) -> None:
    """Raise ``UsageError`` if there is a file at ``path`` that is not a contact sheet."""
    if os.path.lexists(path) and not (path.is_file() and "\0".join(_MARK).encode() in path.read_bytes()):
        raise UsageError(
            f"the contact sheet would replace {path}, which is another file; expected a free name or an earlier "
            "contact sheet: give another name"
        )


def contact_sheet(split: Split, labels: Sequence[str]) -> bytes:
    """Return a PNG file with the name, the number and some of the images of each class of ``split``."""
    rows = labels[:_MOST_ROWS]
    height = _TITLE + _CELL + _GAP
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + _GAP) + _GAP, len(rows) * height + _GAP), _WHITE)
    draw, (font, characters) = ImageDraw.Draw(sheet), _font()
    for row, label in enumerate(rows):
        members = np.flatnonzero(split.labels == row).astype(np.int64)
        top = row * height + _GAP
        title = _title(_drawable(label, characters), f": {len(members):,}", sheet.width - 2 * _GAP, font)
        draw.text((_GAP, top), title, _BLACK, font)
        for column, index in enumerate(evenly_chosen(members, _COLUMNS).tolist()):
            image = Image.fromarray(split.images[index]).resize((_CELL, _CELL), Image.Resampling.NEAREST)
            sheet.paste(image, (_GAP + column * (_CELL + _GAP), top + _TITLE))
    file = io.BytesIO()
    mark = PngInfo()
    mark.add_text(*_MARK)
    sheet.save(file, "PNG", pnginfo=mark)
    return file.getvalue()


def _title(name: str, count: str, width: int, font: Any) -> str:
    """Return ``name`` and ``count``, with a shorter name if both are wider than ``width`` pixels."""
    title, kept = f"{name}{count}", len(name)
    while kept and font.getlength(title) > width:
        kept -= 1
        title = f"{name[:kept]}...{count}"
    return title


def _font() -> tuple[Any, Container[int]]:
    """Return a font and the characters that it has: DejaVu Sans, which comes with matplotlib, or Pillow's own."""
    try:
        from matplotlib import get_data_path
        from matplotlib.ft2font import FT2Font

        path = str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
        return ImageFont.truetype(path, _LETTERS), FT2Font(path).get_charmap()
    except (ImportError, OSError):  # the base install has no matplotlib, and some systems have its fonts elsewhere
        return ImageFont.load_default(), range(128)


def _drawable(name: str, characters: Container[int]) -> str:
    text = printable(composed(name))
    return "".join(c if ord(c) in characters else c.encode("ascii", "backslashreplace").decode() for c in text)
