"""``cifarnet report``: a run as one page to show, its pictures, and a model card."""

from pathlib import Path
from typing import TYPE_CHECKING

from cifarnet.errors import RunError
from cifarnet.spec import printable

from .display import download_bar, out
from .options import BackendOption, MovedDataOption, RunArgument, RunsOption
from .runs import trained_run

if TYPE_CHECKING:
    from cifarnet.run import Run


def command(
    run: RunArgument = None,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a run's report.html, one page that needs no network, with its pictures as PNG files and MODELCARD.md.

    The exported model is scored in onnxruntime; where there is none, or with --backend, the weights on a framework.
    """
    from cifarnet.job import origin_of
    from cifarnet.report import require_reportable, write_report
    from cifarnet.subject import open_subject, require_labels

    found = trained_run(runs, run)
    _require_current(found)
    is_file = backend is None and found.model.is_file()
    subject = open_subject(str(found.model if is_file else found.path), runs, backend)
    with download_bar() as progress:
        dataset = origin_of(found).open(data, progress)
    require_labels(subject, dataset)
    require_reportable(found, dataset)  # before the images are scored
    evaluation = subject.judge(dataset.test, dataset, found.read_record().get("calibration"))
    out(printable(str(write_report(found, evaluation, dataset, subject.engine))))


def _require_current(run: "Run") -> None:
    """Raise ``RunError`` unless the exported file has the weights of the best epoch, so far as it tells."""
    from cifarnet.job import best_epoch_of
    from cifarnet.report.commands import export_command
    from cifarnet.runtime import read_model

    if not run.model.is_file():
        return
    contract, best = read_model(run.model)[1], best_epoch_of(run)
    training = contract.get("training")
    if isinstance(training, dict) and "best_epoch" in training and training["best_epoch"] != best:
        epoch = training["best_epoch"]
        told = "does not tell of which epoch its weights are" if epoch is None else f"has the weights of epoch {epoch}"
        raise RunError(
            f"{run.model} {told}; expected those of epoch {best}, the best one since: "
            f"`{export_command(str(run), flip=bool(contract.get('flip')))}` again"
        )
