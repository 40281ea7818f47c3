"""Compare an app's numbers with the golden ones, and name the mistake that explains the differences."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.contract import CALIBRATED_NAME, LOGITS_NAME, OUTPUTS, PROBABILITIES_NAME
from cifarnet.errors import DataError

from .golden import FloatModel, GoldenImage, Row, read_golden
from .mistakes import explain

TOLERANCES = {LOGITS_NAME: 1e-4, PROBABILITIES_NAME: 1e-5, CALIBRATED_NAME: 1e-5}
"""Largest difference that is rounding. Measured: 2.6e-6 and 5.4e-7 in onnxruntime for Python, Node and the browser."""
NEAR = {LOGITS_NAME: 0.25, PROBABILITIES_NAME: 0.05, CALIBRATED_NAME: 0.03}
"""Largest difference that pixels explain which are right but for one step of 255. Measured: 0.17, 0.031 and
0.018 with every pixel moved by -1, 0 or 1, in 20 draws; the least visible mistake makes 0.98, 0.16 and 0.09."""
UNNAMED = ""
"""Stands for the output's name where an answer is a mere list."""
SUM_TOLERANCE = 1e-2
"""How far a row of probabilities may be from a sum of 1: an app may print few digits."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be said of an app's answers."""

    kind: str
    """What was handed in: the name of an output."""
    differences: Mapping[str, float]
    """Largest absolute difference of each image that was handed in."""
    missing: tuple[str, ...]
    """Golden images without an answer."""
    mistakes: tuple[str, ...] = ()
    """The one that explains the differences, in words that follow "the app"; empty when none does or none has to."""
    others: tuple["Verdict", ...] = ()
    """On the other outputs that were handed in, in the order of the file's."""

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
        """Whether every golden image has the right answer, of every output that was handed in."""
        return not self.differing and not self.missing and all(other.conforms for other in self.others)


def judge(answers: Mapping[str, Any], folder: Path) -> Verdict:
    """Return the verdict on ``answers`` by the name of the image in ``folder``.

    An answer is a list of logits or of probabilities, or an object with one or more such lists by the names of the
    outputs: ``logits``, ``probabilities``, ``calibrated``. Raises ``DataError`` for answers that are not numbers of
    golden images.
    """
    golden = read_golden(folder)
    for name in answers:
        if name not in golden:
            raise DataError(f"{name} is no golden image; expected {', '.join(golden)}: name each answer after its file")
    kinds = _by_kind({name: _rows(name, golden[name], answers[name]) for name in golden if name in answers})
    if not kinds:
        raise DataError("there are 0 answers; expected one per golden image: run the app over all of them")
    first, *others = (_verdict(kind, kinds[kind], golden, folder) for kind in OUTPUTS if kind in kinds)
    return replace(first, others=tuple(others))


def _verdict(kind: str, rows: Mapping[str, Row], golden: Mapping[str, GoldenImage], folder: Path) -> Verdict:
    differences = {name: float(np.abs(row - golden[name].answers[kind]).max()) for name, row in rows.items()}
    missing = tuple(name for name in golden if name not in rows)
    verdict = Verdict(kind=kind, differences=differences, missing=missing)
    if verdict.is_near:
        return verdict
    mistake = explain(rows, kind, golden, FloatModel(folder), NEAR[kind])
    return replace(verdict, mistakes=(mistake,) if mistake else ())


def _rows(name: str, golden: GoldenImage, answer: Any) -> dict[str, Row]:
    """Return the numbers of an answer by the name of the output, and those of a mere list under no name."""
    classes = len(golden.answers[LOGITS_NAME])
    if not isinstance(answer, dict):
        return {UNNAMED: _row(name, answer, classes)}
    if not answer or (unknown := answer.keys() - OUTPUTS.keys()):
        found = ", ".join(sorted(unknown)) if answer else "nothing"
        raise DataError(
            f"the answer for {name} names {found}; expected one or more of {', '.join(OUTPUTS)}: name those"
        )
    return {kind: _row(f"{name} ({kind})", values, classes) for kind, values in answer.items()}


def _row(name: str, values: Any, classes: int) -> Row:
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the answer for {name} is no list of numbers; expected {classes} of them: give the logits"
        ) from error
    if row.shape != (classes,) or not np.isfinite(row).all():
        raise DataError(
            f"the answer for {name} has shape {row.shape} and {int(np.isfinite(row).sum())} finite numbers; expected "
            f"({classes},) and all finite: give the logits"
        )
    return row


def _by_kind(answers: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows by output and by image. What is mere lists shows by its numbers whether it is probabilities."""
    lists = [rows[UNNAMED] for rows in answers.values() if UNNAMED in rows]
    unnamed = PROBABILITIES_NAME if all(map(_is_distribution, lists)) else LOGITS_NAME
    kinds: dict[str, dict[str, Row]] = {}
    for name, rows in answers.items():
        for kind, row in rows.items():
            kinds.setdefault(kind or unnamed, {})[name] = row
    return kinds


def _is_distribution(row: Row) -> bool:
    return bool((row >= 0).all() and abs(row.sum() - 1) <= SUM_TOLERANCE)
