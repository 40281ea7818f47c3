"""Format numbers, units and names for a report."""

import math
from datetime import datetime

from cifarnet.contract import american
from cifarnet.errors import printable

NONE = "\u2013"
"""Shown for a missing value."""
SPACE = "\u00a0"
"""No-break space before a unit."""
LONG_NAME = 40
"""Maximum characters of a name in a sentence."""


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, as a percentage."""
    return NONE if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{decimals}f}%"


def confidence(probability: float) -> str:
    """Return a probability as a percentage; one below 1 is never rounded up to 100%."""
    return ">99.9%" if 0.9995 <= probability < 1 else percent(probability)


def number(value: float | None, decimals: int = 0) -> str:
    """Return a number with thousands separators."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}"


def tiny(value: float) -> str:
    """Return a small number in scientific notation."""
    return "0" if value == 0 else f"{value:.1e}"


def millions(count: int) -> str:
    """Return a count, in millions from one million on."""
    return f"{count / 1e6:.2f} million" if count >= 1e6 else f"{count:,}"


def compact(count: int) -> str:
    """Return a count, abbreviated from one million on."""
    return f"{count / 1e6:.2f}{SPACE}M" if count >= 1e6 else f"{count:,}"


def megabytes(size_bytes: int) -> str:
    """Return a size in megabytes (10**6 bytes) or kilobytes."""
    return f"{size_bytes / 1e6:.2f}{SPACE}MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f}{SPACE}kB"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def moment(when: datetime) -> str:
    """Return a time to the minute."""
    return f"{when:%Y-%m-%d %H:%M %Z}"


def spaced(name: str) -> str:
    """Return an identifier as words."""
    return name.replace("_", " ")


def short(name: str) -> str:
    """Return a name on one line, cut to ``LONG_NAME`` characters."""
    line = printable(" ".join(name.split()))
    return line if len(line) <= LONG_NAME else f"{line[: LONG_NAME - 1]}…"


FILTERS = {
    each.__name__: each
    for each in (percent, confidence, number, tiny, millions, compact, megabytes, moment, spaced, american)
}
