"""``cifarnet report``: a run as one page to show, its pictures, and a model card."""

from pathlib import Path

from cifarnet.contract import printable

from .display import download_bar, out
from .options import BackendOption, MovedDataOption, RunArgument, RunsOption
from .runs import trained_run


def command(
    run: RunArgument = None,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a run's report.html, one page that needs no network, with its pictures as PNG files and MODELCARD.md.

    The exported model is scored in onnxruntime; where there is none, or with --backend, the weights on a framework.
    """
    from cifarnet.evaluation.target import open_subject, require_labels
    from cifarnet.report import require_reportable, write_report
    from cifarnet.run_state import require_own_export

    found = trained_run(runs, run)
    if found.model.is_file():
        require_own_export(found)
    is_file = backend is None and found.model.is_file()
    subject = open_subject(str(found.model if is_file else found.path), runs, backend)
    with download_bar() as progress:
        dataset = found.read_record().origin.open_dataset(data, progress)
    require_labels(subject, dataset)
    require_reportable(found, dataset)  # before the images are scored
    evaluation = subject.judge(dataset.test, dataset, found.read_record().calibration)
    out(printable(str(write_report(found, evaluation, dataset, subject.engine))))
