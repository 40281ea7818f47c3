"""Figures in columns that stay in line, readable without colour."""

from collections.abc import Iterable, Sequence

from cifarnet.contract import printable

GAP = "  "
"""Between two columns."""
WIDEST = 60
"""Characters that a column grows to."""
NONE = "-"
"""Where there is no figure."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> list[str]:
    """Return lines, the first ``texts`` columns to the left, the others to the right, each as wide as its widest cell.

    What is wider than any column may be runs on: the names in a model file of somebody else may have any length.
    """
    cells = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*cells, strict=True)]
    lines = (
        GAP.join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return [line.rstrip() for line in lines]


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, in hundredths, and a dash where there is none."""
    return NONE if fraction is None else f"{100 * fraction:.{decimals}f} %"
