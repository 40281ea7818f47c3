"""Report of a run: a self-contained HTML page, its figures as PNG files, and a model card.

matplotlib draws the figures, as SVG in the page, which follows the reader's theme. Jinja, matplotlib, Pillow and PyYAML
are imported on use.
"""

from pathlib import Path

from cifarnet.atomic import require_writable, write_atomically
from cifarnet.dataset import Dataset
from cifarnet.errors import RunError
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.evaluation.target import Target
from cifarnet.run.folder import Run, weights_digest
from cifarnet.training.same_data import require_same_data

from .card import card_bytes, draw_card, is_edited
from .charts import FIGURES, draw_curves, draw_figures
from .evidence import read_evidence
from .page import draw_page

PAGE = "report.html"
CARD = "MODELCARD.md"
CURVES = "curves.png"


def report_run(run: Run, target: Target, dataset: Dataset) -> Path:
    """Evaluate ``run`` on the test split of ``dataset``, write its report, and return the path of the page.

    ``target`` is its exported file or its weights. Raises as ``write_report``, and ``RunError`` if training replaces
    the best weights meanwhile.
    """
    require_reportable(run, dataset)  # before minutes of evaluation
    evaluated = _digest(run)
    evaluation = target.evaluate(dataset.test, dataset, run.record.calibration)
    if _digest(run) != evaluated:
        raise RunError(f"{run} has new best weights since its evaluation began; expected the same: report it again")
    return write_report(run, evaluation, dataset, target.engine)


def _digest(run: Run) -> str | None:
    return weights_digest(run) if run.best_weights.is_file() else None


def write_report(run: Run, evaluation: Evaluation, dataset: Dataset, engine: str) -> Path:
    """Write page, figures and model card of ``run`` to its folder and return the path of the page.

    ``evaluation`` is on the test split of ``dataset``, computed by ``engine`` ("onnxruntime" or a backend). Missing
    parts (export, calibration, robustness) are replaced by the command that creates them. A model card that was edited
    is kept, see ``edited_card``. Raises ``RunError`` if ``dataset`` is not that of the run, or run.json is damaged.
    """
    evidence = read_evidence(run, engine)
    require_reportable(run, dataset)
    page = draw_page(evidence, evaluation, dataset, engine)
    card = draw_card(evidence, evaluation, engine)
    figures = draw_figures(evaluation, dataset, evidence.robustness)
    if evidence.history:
        draw_curves(evidence.history, evidence.record.best_epoch, run.path / CURVES, evidence.record.custom.loss_title)
    if (run.path / PAGE).exists():
        for name in set(FIGURES) - set(figures):  # stale figures of an earlier report
            (run.path / name).unlink(missing_ok=True)
    for name, content in figures.items():
        write_atomically(run.path / name, content)
    if edited_card(run) is None:
        write_atomically(run.path / CARD, card_bytes(card))
    write_atomically(run.path / PAGE, page.encode(errors="backslashreplace"))  # a folder name may be invalid UTF-8
    return run.path / PAGE


def edited_card(run: Run) -> Path | None:
    """Return the path of the model card of ``run`` if it was edited, so that reports keep it, otherwise None."""
    path = run.path / CARD
    return path if path.is_file() and is_edited(path.read_bytes()) else None


def require_reportable(run: Run, dataset: Dataset) -> None:
    """Raise ``RunError`` if ``dataset`` is not that of ``run``, or the files cannot be written to its folder."""
    require_same_data(run.record.data, dataset, run)
    for name in (*FIGURES, CURVES, CARD, PAGE):
        require_writable(run.path / name)
