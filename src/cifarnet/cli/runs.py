"""Resolve the RUN and MODEL arguments of a command.

``latest`` means the same as no name: the newest run that has what the command needs. ``pretrained`` is the classifier
that comes with the package, where a model file is expected.
"""

from contextlib import suppress
from pathlib import Path

from cifarnet import pretrained
from cifarnet.errors import RunError, shell_word, shown
from cifarnet.run.find import find_exported_run, find_run, names_file
from cifarnet.run.folder import LATEST, Run, require_weights

from .display import say


def trained_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, by default the newest with best weights.

    Prints a note if a newer run has none, or if training has not finished. Raises ``RunError`` if there is no such run
    or it has no best weights.
    """
    name = _given(name)
    found = find_run(root, name, with_weights=True)
    require_weights(found)
    _noted(found, find_run(root, name))
    if found.record.status != "finished":
        say(f"note: {found} has not finished training; using its best weights so far")
    return found


def recorded_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, which may have lost its weights, by default the newest with best weights.

    Raises ``RunError`` if there is no such run.
    """
    name = _given(name)
    return _noted(find_run(root, name, with_weights=True), find_run(root, name))


def resumed_run(root: Path, name: str) -> Run:
    """Return the run called ``name``, which may have no weights yet. Raises ``RunError`` if there is no such run."""
    return find_run(root, _given(name))


def starting_run(root: Path, name: str) -> Run:
    """Return the run called ``name`` to fine-tune, as ``trained_run`` does, or the pretrained one."""
    if name == pretrained.NAME:
        return Run(pretrained.FOLDER)
    return trained_run(root, name)


def named_model(root: Path, name: str | None) -> Path:
    """Return the model file that ``name`` names: a file, ``pretrained``, or that of a run.

    By default it is that of the newest exported run below ``root``, or the one that comes with the package; ``latest``
    is the first of these. Prints a note if a newer run is not exported. Raises ``RunError`` if a run has no model file,
    or one that is not its export.
    """
    if name == pretrained.NAME:
        return pretrained.MODEL
    if name is not None and name != LATEST:
        return Path(name) if names_file(name) else exported_model(find_run(root, name))
    run = newest_exported_run(root)
    if run is None and name is None:
        return pretrained.MODEL
    return exported_model(run or find_run(root))


def newest_exported_run(root: Path) -> Run | None:
    """Return the newest run below ``root`` that has a model file, or None. Prints a note if a newer run has none."""
    run = find_exported_run(root)
    with suppress(RunError):  # there may be no run at all
        newest = find_run(root)
        if run is None or newest.path.resolve() != run.path.resolve():
            say(f"note: the newest run, {newest}, has no exported model")
    return run


def _given(name: str | None) -> str | None:
    """Return ``name``, or None for the name that means the newest run."""
    return None if name == LATEST else name


def model_name(model: Path) -> str:
    """Return how messages call ``model``: its path, or what it is if it comes with the package."""
    return pretrained.DESCRIPTION if model == pretrained.MODEL else shown(model)


def exported_model(run: Run) -> Path:
    """Return the model file of ``run``. Raises ``RunError`` if it has none, or one of other weights."""
    if not run.model.is_file():
        raise RunError(
            f"{run} has no {run.model.name}; expected an exported model: "
            f"`cifarnet export {shell_word(str(run))} --onnx` first"
        )
    from cifarnet.run.state import require_own_export  # not for a model that is no run's

    require_own_export(run)
    return run.model


def _noted(found: Run, newest: Run) -> Run:
    """Return ``found``; print a note if it is not the newest run."""
    if found.path.resolve() != newest.path.resolve():
        say(f"using {found}: the newest, {newest.path.name}, has no best weights")
    return found
