"""Which run a command takes that needs trained weights."""

from pathlib import Path

from cifarnet.job import require_weights
from cifarnet.run import Run, find_run

from .display import printable, say


def trained_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, by default the newest with best weights; say so where a newer one has none.

    Raises ``RunError`` when there is no such run.
    """
    found, newest = find_run(root, name, with_weights=True), find_run(root, name)
    require_weights(found)
    if found.path.resolve() != newest.path.resolve():
        say(printable(f"taking {found}: the newest, {newest.path.name}, has no best weights"))
    return found
