"""How figures read in a report: units, rounding, and a dash where there is none."""

import math
from datetime import datetime

from cifarnet.contract import printable

NONE = "\u2013"
"""Where there is no figure."""
SPACE = "\u00a0"
"""Before a unit: no line ends there."""
LONG_NAME = 40
"""Letters of a class name where there is little room."""


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, in hundredths."""
    return NONE if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{decimals}f}{SPACE}%"


def confidence(probability: float) -> str:
    """Return a probability in hundredths; one below 1 is never rounded up to it."""
    return f">{SPACE}99.9{SPACE}%" if 0.9995 <= probability < 1 else percent(probability)


def number(value: float | None, decimals: int = 0) -> str:
    """Return a number with its thousands apart."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}"


def tiny(value: float) -> str:
    """Return a small number by its power of ten."""
    return "0" if value == 0 else f"{value:.1e}"


def millions(count: int) -> str:
    """Return a large number in a handful of letters."""
    return f"{count / 1e6:.2f} million" if count >= 1e6 else f"{count:,}"


def compact(count: int) -> str:
    """Return a large number where there is little room."""
    return f"{count / 1e6:.2f}{SPACE}M" if count >= 1e6 else f"{count:,}"


def megabytes(size_bytes: int) -> str:
    """Return a size in megabytes (10**6 bytes), a small one in kilobytes."""
    return f"{size_bytes / 1e6:.2f}{SPACE}MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f}{SPACE}kB"


def duration(seconds: float | None) -> str:
    """Return a time as people say it."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def moment(text: object) -> str:
    """Return a time as ISO 8601 has it, to the minute; anything else as it is."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".strip()


def spaced(name: str) -> str:
    """Return the name of a corruption as words."""
    return name.replace("_", " ")


def short(name: str) -> str:
    """Return a name cut to what fits into a sentence, on one line."""
    line = printable(" ".join(name.split()))
    return line if len(line) <= LONG_NAME else f"{line[: LONG_NAME - 1]}…"


FILTERS = {
    each.__name__: each
    for each in (percent, confidence, number, tiny, millions, compact, megabytes, duration, moment, spaced)
}
"""What the templates may call."""
