"""Figures in columns that stay in line, readable without colour."""

from collections.abc import Iterable, Sequence

from .display import printable

GAP = "  "
"""Between two columns."""
NONE = "-"
"""Where there is no figure."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines, the first column to the left, the others to the right, each as wide as its widest cell."""
    cells = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        GAP.join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, in hundredths, and a dash where there is none."""
    return NONE if fraction is None else f"{100 * fraction:.{decimals}f} %"
