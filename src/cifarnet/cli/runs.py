"""Resolve the RUN and MODEL arguments of a command.

``latest`` means the same as no name: the newest run that has what the command needs. ``pretrained`` is the classifier
that comes with the package, where a model file is expected.
"""

from contextlib import suppress
from pathlib import Path

from cifarnet import pretrained
from cifarnet.errors import RunError, shell_word, shown
from cifarnet.run.find import find_exported_run, find_run, names_file
from cifarnet.run.folder import LATEST, MODEL, RECORD, Run, require_weights

from .display import say


def trained_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, by default the newest with best weights.

    Prints a note if a newer run has none, or if training has not finished. Raises ``RunError`` if there is no such run
    or it has no best weights.
    """
    found = recorded_run(root, name)
    require_weights(found)
    if found.record.status != "finished":
        say(f"note: {found} has not finished training; using its best weights so far")
    return found


def recorded_run(root: Path, name: str | None) -> Run:
    """Return the run called ``name``, as ``trained_run`` does, even if it has lost its weights."""
    found, newest = find_run(root, name, with_weights=True), find_run(root, name)
    if found.path.resolve() != newest.path.resolve():
        say(f"using {found}: the newest, {newest.path.name}, has no best weights")
    return found


def named_model(root: Path, name: str | None) -> Path:
    """Return the file of ``model_and_run``, by default the pretrained one if no run is exported."""
    return model_and_run(root, name, or_pretrained=True)[0]


def model_and_run(root: Path, name: str | None, *, or_pretrained: bool = False) -> tuple[Path, Run | None]:
    """Return the model file that ``name`` names, by default that of the newest exported run, and its run.

    A file and ``pretrained`` have no run. Prints a note if a newer run is not exported. Raises ``RunError`` if a run
    has no model file, or one that is not its export.
    """
    if name == pretrained.NAME:
        return pretrained.MODEL, None
    if name and names_file(name):
        file = Path(name)
        if file.name == MODEL and not file.exists() and (file.parent / RECORD).is_file():
            exported_model(Run(file.parent))  # raises
        return file, None
    run = _newest_exported(root) if name in (None, LATEST) else None
    if run is None and name is None and or_pretrained:
        return pretrained.MODEL, None
    run = run or find_run(root, name)
    return exported_model(run), run


def _newest_exported(root: Path) -> Run | None:
    """Return the newest run below ``root`` that has a model file, or None. Prints a note if a newer run has none."""
    run = find_exported_run(root)
    with suppress(RunError):  # there may be no run at all
        newest = find_run(root)
        if run is None or newest.path.resolve() != run.path.resolve():
            export = f"`cifarnet export {shell_word(str(newest))} --onnx`"
            say(f"note: the newest run, {newest}, has no exported model: {export}")
    return run


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
    from cifarnet.run.exported import require_own_export  # not for a model that is no run's

    require_own_export(run)
    return run.model
