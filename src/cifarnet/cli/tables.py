"""Tables for the terminal, laid out by rich and returned as plain text."""

from collections.abc import Iterable, Sequence

from cifarnet.errors import printable

WIDEST = 80
"""Maximum width of a column in characters; longer cells are wrapped."""
UNLIMITED = 100_000
"""Width of the page in characters, so that rich never truncates a number to fit a terminal."""
NONE = "-"
"""Shown for a missing value."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> list[str]:
    """Return the lines of a table whose first ``texts`` columns are aligned left, the others right.

    Columns named "" throughout have no header line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(head))
    for place, name in enumerate(head):
        drawn.add_column(
            Text(printable(name)), justify="left" if place < texts else "right", overflow="fold", max_width=WIDEST
        )
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=UNLIMITED, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(drawn)
    return [line.rstrip() for line in captured.get().splitlines()]


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, as a percentage, or a dash for None."""
    return NONE if fraction is None else f"{100 * fraction:.{decimals}f}%"
