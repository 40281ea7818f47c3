"""Render the report as one self-contained HTML file."""

import base64
import io
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.dataset import Dataset
from cifarnet.errors import printable
from cifarnet.evaluation.metrics import Evaluation
from cifarnet.evaluation.robustness import Robustness

from . import findings
from .charts import MOST_NUMBERED, curves_svg, reliability_svg
from .commands import export_command, place_of, settings_beyond_options, split_note, train_command
from .evidence import Absent, Evidence
from .words import FILTERS, SPACE

if TYPE_CHECKING:
    from jinja2 import Environment

DEEPEST = 46
"""Darkest tint behind text in percent, which keeps a contrast of 4.5 in both themes."""


def draw_page(evidence: Evidence, evaluation: Evaluation, dataset: Dataset, engine: str) -> str:
    """Return the page as HTML. ``engine`` is the backend or runtime of the evaluation."""
    template = environment().get_template("report.html")
    return template.render(
        values(evidence, evaluation, engine),
        run=evidence.words,
        curves=curves_svg(evidence.history, evidence.record.best_epoch, evidence.record.custom.loss_title)
        if evidence.history
        else None,
        reliability=reliability_svg(evaluation),
        confusion=_confusion(evaluation),
        deepest=DEEPEST,
        is_numbered=len(evaluation.labels) <= MOST_NUMBERED,
        errors=[
            asdict(error) | {"source": data_url(dataset.test.images[error.index])}
            for error in evaluation.confident_errors
        ],
        corrupted=_corrupted(evidence.robustness),
        export=export_command(views=evidence.export_views),
    )


def values(evidence: Evidence, evaluation: Evaluation, engine: str) -> dict[str, Any]:
    """Return the values that the templates of page and card share."""
    record = evidence.record
    return {
        "evidence": evidence,
        "record": record,
        "evaluation": evaluation,
        "engine": engine,
        "findings": findings,
        "is_absent": lambda part: isinstance(part, Absent),
        "train": train_command(record),
        "beyond": settings_beyond_options(record),
        "split": split_note(record),
        "place": place_of(record.data.source),
    }


def environment(finalize: Callable[[Any], Any] | None = None, *, autoescape: bool = True) -> "Environment":
    """Return the Jinja environment, which escapes every value; ``finalize`` changes each before."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(__package__),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,  # noqa: S701  # the page keeps it
        finalize=finalize or _printable,
    )
    made.filters.update(FILTERS)
    return made


def _printable(value: Any) -> Any:
    """Return text with unprintable characters escaped, except no-break spaces; markup is unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return SPACE.join(map(printable, value.split(SPACE)))


def _confusion(evaluation: Evaluation) -> list[list[dict[str, int]]]:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    errors = shares * (1 - np.eye(len(counts)))
    tints = DEEPEST * np.where(np.eye(len(counts)), shares, errors / max(errors.max(), 1e-9))
    return [
        [{"value": int(value), "tint": round(tint)} for value, tint in zip(*row, strict=True)]
        for row in zip(counts, tints, strict=True)
    ]


def _corrupted(found: Robustness | Absent) -> list[list[int]]:
    """Return the tint of each accuracy on corrupted images, relative to the largest loss."""
    if isinstance(found, Absent):
        return []
    accuracies = np.array([family.accuracies for family in (*found.families.values(), *found.extra.values())])
    lost = np.maximum(found.clean.accuracy - accuracies, 0)
    tints: list[list[int]] = np.rint(DEEPEST * lost / max(lost.max(), 1e-9)).astype(int).tolist()
    return tints


def data_url(pixels: NDArray[np.uint8]) -> str:
    """Return pixels uint8 (h, w, 3) as the data URL of a PNG file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
