"""A picture of a folder: one row of images per class, in the size in which a model sees them."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cifarnet.dataset import Split

from .validation_split import evenly_chosen

_COLUMNS = 16
"""Maximum number of images of a class, evenly chosen."""
_MOST_ROWS = 100
"""Maximum number of classes."""
_CELL, _GAP, _TITLE = 64, 4, 14
"""Side of an image on the sheet, space between two, and height of the line above a row, in pixels."""
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def contact_sheet(split: Split, labels: Sequence[str]) -> bytes:
    """Return a PNG file with the name, the number and some of the images of each class of ``split``."""
    rows = labels[:_MOST_ROWS]
    height = _TITLE + _CELL + _GAP
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + _GAP) + _GAP, len(rows) * height + _GAP), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(rows):
        members = np.flatnonzero(split.labels == row).astype(np.int64)
        top = row * height + _GAP
        name = label.encode("ascii", "backslashreplace").decode()  # the built-in font has few other characters
        draw.text((_GAP, top), f"{name}: {len(members):,}", _BLACK)
        for column, index in enumerate(evenly_chosen(members, _COLUMNS).tolist()):
            image = Image.fromarray(split.images[index]).resize((_CELL, _CELL), Image.Resampling.NEAREST)
            sheet.paste(image, (_GAP + column * (_CELL + _GAP), top + _TITLE))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
