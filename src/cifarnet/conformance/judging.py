"""Compare an app's numbers with the golden ones, and have the differences explained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.errors import DataError
from cifarnet.spec import LOGITS_NAME, PROBABILITIES_NAME

from .explaining import Imitation, explain
from .golden import FloatModel, GoldenImage, Row, read_golden

TOLERANCES = {LOGITS_NAME: 1e-4, PROBABILITIES_NAME: 1e-5}
"""Largest difference that is rounding. Measured: 2.6e-6 and 5.4e-7 in onnxruntime for Python, Node and the browser."""
NEAR = {LOGITS_NAME: 0.25, PROBABILITIES_NAME: 0.03}
"""Largest difference that pixels explain which are right but for one step of 255. Measured: 0.16 and 0.021 with every
pixel moved by -1, 0 or 1, in 20 draws; the least visible mistake makes 0.98 and 0.16."""
SUM_TOLERANCE = 1e-2
"""How far a row of probabilities may be from a sum of 1: an app may print few digits."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be said of an app's answers."""

    kind: str
    """What was handed in: logits or probabilities."""
    differences: Mapping[str, float]
    """Largest absolute difference of each image that was handed in."""
    missing: tuple[str, ...]
    """Golden images without an answer."""
    mistakes: tuple[str, ...] = ()
    """What explains the differences, in words that follow "the app"; empty when nothing does or nothing has to."""

    @property
    def differing(self) -> dict[str, float]:
        """The images whose numbers differ by more than rounding, the worst first."""
        beyond = {name: found for name, found in self.differences.items() if found > TOLERANCES[self.kind]}
        return dict(sorted(beyond.items(), key=lambda item: -item[1]))

    @property
    def is_near(self) -> bool:
        """Whether no difference is larger than what pixels off by one step make."""
        return max(self.differences.values()) <= NEAR[self.kind]

    @property
    def conforms(self) -> bool:
        """Whether every golden image has the right answer."""
        return not self.differing and not self.missing


def judge(answers: Mapping[str, Any], folder: Path) -> Verdict:
    """Return the verdict on ``answers``, lists of logits or of probabilities by the name of the image in ``folder``.

    Raises ``DataError`` for answers that are not numbers of golden images.
    """
    golden = read_golden(folder)
    rows = {name: _row(name, golden, answers[name]) for name in [*golden, *answers] if name in answers}
    if not rows:
        raise DataError("there are 0 answers; expected one per golden image: run the app over all of them")
    kind = PROBABILITIES_NAME if all(map(_is_distribution, rows.values())) else LOGITS_NAME
    differences = {name: float(np.abs(row - golden[name].answers[kind]).max()) for name, row in rows.items()}
    missing = tuple(name for name in golden if name not in rows)
    verdict = Verdict(kind=kind, differences=differences, missing=missing)
    if verdict.is_near:
        return verdict
    imitation = Imitation(golden, FloatModel(folder))
    # Exactly if possible: what is merely near may be so by other mistakes too, where one of them flattens the numbers.
    mistakes = explain(rows, kind, imitation, TOLERANCES[kind]) or explain(rows, kind, imitation, NEAR[kind])
    return replace(verdict, mistakes=mistakes)


def _row(name: str, golden: Mapping[str, GoldenImage], values: Any) -> Row:
    if name not in golden:
        raise DataError(f"{name} is no golden image; expected {', '.join(golden)}: name each answer after its file")
    classes = len(golden[name].answers[LOGITS_NAME])
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the answer for {name} is no list of numbers ({error}); expected {classes} of them: give the logits"
        ) from error
    if row.shape != (classes,) or not np.isfinite(row).all():
        raise DataError(
            f"the answer for {name} has shape {row.shape} and {int(np.isfinite(row).sum())} finite numbers; expected "
            f"({classes},) and all finite: give the logits"
        )
    return row


def _is_distribution(row: Row) -> bool:
    return bool((row >= 0).all() and abs(row.sum() - 1) <= SUM_TOLERANCE)
