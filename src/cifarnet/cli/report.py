"""``cifarnet report``: an HTML page about a run, its figures and a model card."""

from pathlib import Path

from cifarnet.errors import printable, shown

from .display import download_bar, out, say
from .options import BackendOption, MovedDataOption, RunArgument, RunsOption
from .runs import trained_run


def command(
    run: RunArgument = None,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write an HTML report, figures and a model card of a run.

    Evaluates the exported model in onnxruntime. Without an exported model, or with --backend, evaluates the run's
    weights on a backend.
    """
    from cifarnet.evaluation.target import open_target
    from cifarnet.report import edited_card, report_run
    from cifarnet.run.state import require_own_export

    found = trained_run(runs, run)
    if found.model.is_file():
        require_own_export(found)
    is_file = backend is None and found.model.is_file()
    target = open_target(str(found.model if is_file else found.path), runs, backend)
    with download_bar() as progress:
        dataset = found.record.origin.load_dataset(data, progress)
    if card := edited_card(found):
        say(f"note: {card} was edited and stays as it is, figures included: move it away to get a new one")
    out(printable(shown(report_run(found, target, dataset))))
