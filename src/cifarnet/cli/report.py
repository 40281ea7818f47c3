"""``cifarnet report``: an HTML page about a run, its figures and a model card."""

from pathlib import Path

from cifarnet.errors import shown

from .display import download_bar, out_lines, say
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
    from cifarnet.backends import choose
    from cifarnet.evaluation.target import file_target, run_target
    from cifarnet.report import edited_card, report_run
    from cifarnet.run.exported import require_own_export

    found = trained_run(runs, run)
    is_exported = found.model.is_file()
    if is_exported:
        require_own_export(found)
    use_file = is_exported and backend is None
    target = file_target(found.model, found) if use_file else run_target(found, choose(backend))
    with download_bar() as progress:
        dataset = found.record.origin.load_dataset(data, progress)
    if card := edited_card(found):
        say(f"note: {card} was edited and stays as it is, figures included: move it away to get a new one")
    out_lines([shown(report_run(found, target, dataset))])
