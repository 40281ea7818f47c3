"""Which run a command takes that needs one that was trained."""

from pathlib import Path

from cifarnet.run_folder import Run, find_run
from cifarnet.run_state import require_weights

from .display import say


def trained_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, by default the newest with best weights.

    A line tells where a newer one has none, and where training has not come to its end. Raises ``RunError`` when there
    is no such run, or it has no best weights.
    """
    found = find_run(root, name, with_weights=True)
    require_weights(found)
    _said(found, find_run(root, name))
    if found.read_record().status != "finished":
        say(f"note: {found} has not come to its end; its best weights so far are taken")
    return found


def recorded_run(root: Path, name: str | None) -> Run:
    """Return the same run, for what needs its history or its exported model, not the weights themselves.

    Raises ``RunError`` when there is no such run.
    """
    return _said(find_run(root, name, with_weights=True), find_run(root, name))


def _said(found: Run, newest: Run) -> Run:
    """Return the run that was found; say so where it is not the newest."""
    if found.path.resolve() != newest.path.resolve():
        say(f"taking {found}: the newest, {newest.path.name}, has no best weights")
    return found
