"""Write a report into the run folder: the page, its pictures and the model card."""

from pathlib import Path

from cifarnet.atomic import write_atomically
from cifarnet.errors import DataError, RunError
from cifarnet.evaluation import Evaluation
from cifarnet.run import Run
from cifarnet.spec import Dataset

from .card import draw_card
from .charts import PICTURES, draw_curves, draw_pictures
from .evidence import Evidence, read_evidence
from .page import draw_page

PAGE = "report.html"
CARD = "MODELCARD.md"


def write_report(run: Run, evaluation: Evaluation, dataset: Dataset, engine: str) -> Path:
    """Write page, pictures and model card of ``run`` into its folder and return the page.

    ``evaluation`` is of the test images of ``dataset``, made on ``engine`` ("onnxruntime" or a backend). What the
    folder does not hold (an export, a calibration, a trial of corruptions) is left out with a word on how to get it.
    Raises ``RunError`` where ``dataset`` is not the one that the run tells of, or its record is damaged.
    """
    evidence = read_evidence(run, engine)
    _require_same(evidence, evaluation, dataset)
    page = draw_page(evidence, evaluation, dataset, engine)
    card = draw_card(evidence, evaluation, engine)
    pictures = draw_pictures(evaluation, dataset, evidence.robustness)
    if evidence.history:
        draw_curves(evidence.history, evidence.record.get("best_epoch"), run.path / "curves.png")
    for name in PICTURES:
        if name not in pictures:  # what an earlier report drew would be taken for a part of this one
            (run.path / name).unlink(missing_ok=True)
    for name, content in pictures.items():
        write_atomically(run.path / name, content)
    write_atomically(run.path / CARD, card.encode())
    write_atomically(run.path / PAGE, page.encode())
    return run.path / PAGE


def _require_same(evidence: Evidence, evaluation: Evaluation, dataset: Dataset) -> None:
    recorded = evidence.record["data"]["fingerprint"]
    if dataset.fingerprint != recorded:
        raise RunError(
            f"the images have the fingerprint {dataset.fingerprint[:12]}; expected {recorded[:12]} as when "
            f"{evidence.name} began: give their place with --data"
        )
    if (evaluation.labels, evaluation.images) != (dataset.labels, len(dataset.test)):
        raise DataError(
            f"{evaluation.images:,} images of {len(evaluation.labels)} classes were scored; expected the "
            f"{len(dataset.test):,} test images of {dataset.name}: score those"
        )
