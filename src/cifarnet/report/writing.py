"""Write a report to the run folder: the page, its figures and the model card."""

from pathlib import Path

from cifarnet.atomic import require_writable, write_atomically
from cifarnet.dataset import Dataset
from cifarnet.errors import DataError, RunError
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.run.folder import Run

from .card import draw_card
from .charts import FIGURES, draw_curves, draw_figures
from .evidence import read_evidence
from .page import draw_page

PAGE = "report.html"
CARD = "MODELCARD.md"
CURVES = "curves.png"


def write_report(run: Run, evaluation: Evaluation, dataset: Dataset, engine: str) -> Path:
    """Write page, figures and model card of ``run`` to its folder and return the path of the page.

    ``evaluation`` is on the test split of ``dataset``, computed by ``engine`` ("onnxruntime" or a backend). Missing
    parts (export, calibration, robustness) are replaced by the command that creates them. Raises ``RunError`` if
    ``dataset`` is not that of the run, or run.json is damaged.
    """
    evidence = read_evidence(run, engine)
    require_reportable(run, dataset)
    _require_same(evaluation, dataset)
    page = draw_page(evidence, evaluation, dataset, engine)
    card = draw_card(evidence, evaluation, engine)
    figures = draw_figures(evaluation, dataset, evidence.robustness)
    if evidence.history:
        draw_curves(evidence.history, evidence.record.best_epoch, run.path / CURVES, evidence.record.custom.loss_title)
    for name in FIGURES:
        if name not in figures:  # a stale figure of an earlier report
            (run.path / name).unlink(missing_ok=True)
    for name, content in figures.items():
        write_atomically(run.path / name, content)
    for name, text in ((CARD, card), (PAGE, page)):  # a folder name may be invalid UTF-8
        write_atomically(run.path / name, text.encode(errors="backslashreplace"))
    return run.path / PAGE


def require_reportable(run: Run, dataset: Dataset) -> None:
    """Raise ``RunError`` if ``dataset`` is not that of ``run``, or the files cannot be written to its folder."""
    recorded = run.record.data.fingerprint
    if dataset.fingerprint != recorded:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {recorded[:12]} as when "
            f"{run.path.name} began: restore them, or give their new location with --data"
        )
    for name in (*FIGURES, CURVES, CARD, PAGE):
        require_writable(run.path / name)


def _require_same(evaluation: Evaluation, dataset: Dataset) -> None:
    if (evaluation.labels, evaluation.images) != (dataset.labels, len(dataset.test)):
        raise DataError(
            f"{evaluation.images:,} images of {len(evaluation.labels)} classes were evaluated; expected the "
            f"{len(dataset.test):,} test images of {dataset.name}: evaluate on those"
        )
