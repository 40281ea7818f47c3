"""Create a run folder, and find one: by its name, or the latest."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from cifarnet.arguments import PATH, takes
from cifarnet.atomic import is_temporary, publish, remove_abandoned, temporary_name
from cifarnet.errors import RunError, reason

from .folder import LATEST, LOCK, RECORD, Run


def create_run(root: Path, recipe: str, backend: str, now: datetime, fill: Callable[[Run], object]) -> Run:
    """Create a run folder below ``root``, named for time, recipe and backend, with the files that ``fill`` writes.

    The folder gets its name when ``fill`` has returned, so that no process ever sees an incomplete run. The name has
    the local time; the record has the time in UTC, which determines the newest run. Raises ``RunError`` if the folder
    cannot be created, and what ``fill`` raises.
    """
    stem = f"{now:%Y%m%d-%H%M%S}-{recipe}-{backend}"
    temporary = temporary_name(root / stem)
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        fill(Run(temporary))
        return _named(temporary, root / stem)
    except OSError as error:
        raise RunError(
            f"a run could not be made in {root} ({reason(error)}); expected a writable folder: give another "
            "(--runs, in Python runs=)"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _named(temporary: Path, path: Path) -> Run:
    """Rename a complete run folder to ``path``, or to the first free ``path-2``, ``path-3``, ..."""
    named, numbers = path, count(2)
    while True:
        try:
            if not os.path.lexists(named):
                publish(temporary, named)
                return Run(named)
        except OSError:
            if not os.path.lexists(named):  # otherwise another process was faster
                raise
        named = path.with_name(f"{path.name}-{next(numbers)}")


def point_latest(run: Run) -> None:
    """Make ``latest`` beside ``run`` a link to it, unless links are not allowed or ``latest`` is not our link."""
    latest = run.path.parent / LATEST
    remove_abandoned(latest.parent)
    if os.path.lexists(latest) and not _is_own_link(latest):
        return
    link = temporary_name(latest)
    with suppress(OSError):
        link.symlink_to(run.path.name, target_is_directory=True)
        link.replace(latest)
    with suppress(OSError):
        link.unlink(missing_ok=True)


def finish_pointing_latest(run: Run) -> None:
    """Point ``latest`` to ``run`` if it points to an earlier one, because a process was killed before it could."""
    latest = run.path.parent / LATEST
    remove_abandoned(latest.parent)
    if not _is_own_link(latest) or _beginning(latest.resolve()) < _beginning(run.path.resolve()):
        point_latest(run)


def _is_own_link(latest: Path) -> bool:
    """Return whether ``latest`` is a link to a run beside it, or to a deleted folder beside it."""
    if not latest.is_symlink():
        return False
    folder = latest.absolute().parent
    target = Path(os.path.normpath(folder / latest.readlink()))
    is_run = not os.path.lexists(target) or any(os.path.lexists(target / name) for name in (RECORD, LOCK))
    return is_run and target.parent == Path(os.path.normpath(folder))


@takes(root=PATH, name=PATH)
def find_run(root: str | Path = "runs", name: str | None = None, *, with_weights: bool = False) -> Run:
    """Return the run called ``name``, a path or a folder below ``root``; by default, or for "latest", the latest.

    The latest is the run that the link ``latest`` points to, or else the one that began last. ``with_weights`` prefers
    runs with best weights, unless ``name`` is given. Raises ``RunError`` if there is no run.
    """
    root, name = Path(root), None if name == LATEST else name
    runs = (Run(path.resolve() if path.is_symlink() else path) for path in _candidates(root, name) if _is_run(path))
    found = next(runs, None)
    if found is None:
        raise _no_run(root, name)
    if name or not with_weights:
        return found
    return next((run for run in chain([found], runs) if run.best_weights.is_file()), found)


def names_file(name: str) -> bool:
    """Return whether ``name`` is that of a model file, existing or not, rather than of a run or its folder."""
    return not Path(name).is_dir() and (name.lower().endswith(".onnx") or Path(name).is_file())


def is_run(root: Path, name: str) -> bool:
    """Return whether ``name`` is the path of a run folder, or the name of one below ``root``."""
    try:
        return any(map(_is_run, (Path(name), root / name)))
    except RunError:  # a name that cannot be looked up is none
        return False


def find_exported_run(root: str | Path = "runs") -> Run | None:
    """Return the latest run below ``root`` that has an exported model, or None."""
    runs = map(Run, _candidates(Path(root), None))
    return next((run for run in runs if run.model.is_file()), None)


def _candidates(root: Path, name: str | None) -> Iterator[Path]:
    """Yield the possible paths of the run, in order of preference."""
    if name:
        yield from (Path(name), root / name)
        return
    if _is_own_link(root / LATEST):
        yield root / LATEST
    folders = (path.parent for path in root.glob(f"*/{RECORD}") if not is_temporary(path.parent.name))
    yield from sorted(folders, key=_beginning, reverse=True)


def _no_run(root: Path, name: str | None) -> RunError:
    if name and _is_run(Path(name).parent):
        return RunError(f"{name} lies in a run folder and is none; expected the folder: name {Path(name).parent}")
    wanted = f"{root} holds no run"
    if name:
        exists = os.path.lexists(name) or os.path.lexists(root / name)
        wanted = f"{name} is no run folder" if exists else f"{name} does not exist"
    return RunError(f"{wanted}; expected a folder with {RECORD}: train one with `cifarnet train`")


def _is_run(path: Path) -> bool:
    try:
        return (path / RECORD).is_file()
    except OSError as error:  # no permission, a name too long
        raise RunError(f"{path} could not be read ({reason(error)}); expected a run folder: pass another") from error


def _beginning(folder: Path) -> tuple[float, bool, int, str]:
    """Return a sort key of run folders: when the run began, then the number at the end of its name.

    Without a valid record, the time of its last change counts. A copy called ``latest`` sorts before its original.
    """
    started = 0.0
    try:
        started = Run(folder).record.started.timestamp()
    except RunError:
        with suppress(OSError):
            started = (folder / RECORD).stat().st_mtime
    number = re.search(r"-(\d{1,3})$", folder.name)
    return started, folder.name != LATEST, int(number[1]) if number else 1, folder.name
