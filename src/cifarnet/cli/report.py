"""``cifarnet report``: an HTML page about a run, its figures and a model card."""

from pathlib import Path

from cifarnet.errors import RunError, printable
from cifarnet.run.folder import Run, weights_digest

from .display import download_bar, out
from .options import BackendOption, MovedDataOption, RunArgument, RunsOption
from .runs import trained_run


def command(
    run: RunArgument = None,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write an HTML report, figures and a model card of a run.

    Evaluates the exported model in onnxruntime, or without one, or with --backend, the run's weights on a backend.
    """
    from cifarnet.evaluation.target import open_target, require_labels
    from cifarnet.report import require_reportable, write_report
    from cifarnet.run.state import require_own_export

    found = trained_run(runs, run)
    if found.model.is_file():
        require_own_export(found)
    is_file = backend is None and found.model.is_file()
    target = open_target(str(found.model if is_file else found.path), runs, backend)
    with download_bar() as progress:
        dataset = found.record.origin.load_dataset(data, progress)
    require_labels(target, dataset)
    require_reportable(found, dataset)  # before minutes of evaluation
    evaluated = _digest(found)
    evaluation = target.evaluate(dataset.test, dataset, found.record.calibration)
    if _digest(found) != evaluated:
        raise RunError(f"{found} has new best weights since its evaluation began; expected the same: report it again")
    out(printable(str(write_report(found, evaluation, dataset, target.engine))))


def _digest(run: Run) -> str | None:
    return weights_digest(run) if run.best_weights.is_file() else None
