"""Resolve the RUN argument of a command."""

from contextlib import suppress
from pathlib import Path

from cifarnet import pretrained
from cifarnet.errors import RunError, shell_word
from cifarnet.run.find import find_exported_run, find_run
from cifarnet.run.folder import LATEST, Run, require_weights
from cifarnet.run.state import require_own_export

from .display import say


def trained_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, by default the newest with best weights.

    Prints a note if a newer run has none, or if training has not finished. Raises ``RunError`` if there is no such run
    or it has no best weights.
    """
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
    return _noted(find_run(root, name, with_weights=True), find_run(root, name))


def starting_run(root: Path, name: str) -> Run:
    """Return the run that ``name`` names as a start for fine-tuning, as ``trained_run`` does, or the pretrained one."""
    if name == pretrained.NAME:
        return Run(pretrained.FOLDER)
    return trained_run(root, None if name == LATEST else name)


def default_model(root: Path) -> Path:
    """Return the model of the newest exported run below ``root``, or the one that comes with the package.

    Prints a note if a newer run is not exported. Raises ``RunError`` if that file is not the export of its run.
    """
    run = find_exported_run(root)
    with suppress(RunError):  # there may be no run at all
        newest = find_run(root)
        if run is None or newest.path.resolve() != run.path.resolve():
            say(f"note: the newest run, {newest}, has no exported model")
    return pretrained.MODEL if run is None else exported_model(run)


def model_name(model: Path) -> str:
    """Return how messages call ``model``: its path, or what it is if it comes with the package."""
    return pretrained.DESCRIPTION if model == pretrained.MODEL else str(model)


def exported_model(run: Run) -> Path:
    """Return the model file of ``run``. Raises ``RunError`` if it has none, or one of other weights."""
    if not run.model.is_file():
        raise RunError(
            f"{run} has no {run.model.name}; expected an exported model: "
            f"`cifarnet export {shell_word(str(run))} --onnx` first"
        )
    require_own_export(run)
    return run.model


def _noted(found: Run, newest: Run) -> Run:
    """Return ``found``; print a note if it is not the newest run."""
    if found.path.resolve() != newest.path.resolve():
        say(f"using {found}: the newest, {newest.path.name}, has no best weights")
    return found
