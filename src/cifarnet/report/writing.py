"""Write a report into the run folder: the page, its pictures and the model card."""

from pathlib import Path

from cifarnet.atomic import require_writable, write_atomically
from cifarnet.contract import Dataset
from cifarnet.errors import DataError, RunError
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.run_folder import Run

from .card import draw_card
from .charts import PICTURES, draw_curves, draw_pictures
from .evidence import read_evidence
from .page import draw_page

PAGE = "report.html"
CARD = "MODELCARD.md"
CURVES = "curves.png"


def write_report(run: Run, evaluation: Evaluation, dataset: Dataset, engine: str) -> Path:
    """Write page, pictures and model card of ``run`` into its folder and return the page.

    ``evaluation`` is of the test images of ``dataset``, made on ``engine`` ("onnxruntime" or a backend). What the
    folder does not hold (an export, a calibration, a trial of corruptions) is left out with a word on how to get it.
    Raises ``RunError`` where ``dataset`` is not the one that the run tells of, or its record is damaged.
    """
    evidence = read_evidence(run, engine)
    require_reportable(run, dataset)
    _require_same(evaluation, dataset)
    page = draw_page(evidence, evaluation, dataset, engine)
    card = draw_card(evidence, evaluation, engine)
    pictures = draw_pictures(evaluation, dataset, evidence.robustness)
    if evidence.history:
        draw_curves(evidence.history, evidence.record.best_epoch, run.path / CURVES)
    for name in PICTURES:
        if name not in pictures:  # what an earlier report drew would be taken for a part of this one
            (run.path / name).unlink(missing_ok=True)
    for name, content in pictures.items():
        write_atomically(run.path / name, content)
    for name, text in ((CARD, card), (PAGE, page)):  # a folder's name may be no valid UTF-8
        write_atomically(run.path / name, text.encode(errors="backslashreplace"))
    return run.path / PAGE


def require_reportable(run: Run, dataset: Dataset) -> None:
    """Raise ``RunError`` where ``dataset`` is not that of ``run``, or its folder does not take the report's files."""
    recorded = run.read_record().data.fingerprint
    if dataset.fingerprint != recorded:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {recorded[:12]} as when "
            f"{run.path.name} began: restore them, or name their place with --data where they moved"
        )
    for name in (*PICTURES, CURVES, CARD, PAGE):
        require_writable(run.path / name)


def _require_same(evaluation: Evaluation, dataset: Dataset) -> None:
    if (evaluation.labels, evaluation.images) != (dataset.labels, len(dataset.test)):
        raise DataError(
            f"{evaluation.images:,} images of {len(evaluation.labels)} classes were scored; expected the "
            f"{len(dataset.test):,} test images of {dataset.name}: score those"
        )
