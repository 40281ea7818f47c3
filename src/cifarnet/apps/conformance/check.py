"""Read an app's outputs on the golden images, compare them, and find the mistake that explains the differences."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.contract import CALIBRATED_NAME, LOGITS_NAME, OUTPUTS, PROBABILITIES_NAME
from cifarnet.errors import DataError, reason

from .golden import GoldenImage, Row, read_golden
from .mistakes import explain

TOLERANCES = {LOGITS_NAME: 1e-4, PROBABILITIES_NAME: 1e-5, CALIBRATED_NAME: 1e-5}
"""Maximum absolute difference due to rounding. Measured with onnxruntime in Python, Node, browsers: 2.6e-6, 5.4e-7."""
NEAR = {LOGITS_NAME: 0.25, PROBABILITIES_NAME: 0.05, CALIBRATED_NAME: 0.03}
"""Maximum absolute difference due to pixels that are off by one. Measured: 0.17, 0.031 and 0.018 with every pixel
moved by -1, 0 or 1, in 20 draws; the least visible mistake makes 0.98, 0.16 and 0.09."""
UNNAMED = ""
"""Name of outputs that are given as a plain list."""
SUM_TOLERANCE = 1e-2
"""Maximum difference of a sum of probabilities from 1, since an app may print few digits."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of the check for one output."""

    kind: str
    """Name of the output."""
    differences: Mapping[str, float]
    """Maximum absolute difference by image."""
    missing: tuple[str, ...]
    """Golden images that the app gave no output for."""
    mistakes: tuple[str, ...] = ()
    """The mistake that explains the differences, worded to follow "the app"; empty if none does or all agree."""
    others: tuple["Verdict", ...] = ()
    """Results for the app's other outputs."""

    @property
    def differing(self) -> dict[str, float]:
        """Images that differ by more than rounding, largest difference first."""
        beyond = {name: found for name, found in self.differences.items() if found > TOLERANCES[self.kind]}
        return dict(sorted(beyond.items(), key=lambda item: -item[1]))

    @property
    def is_near(self) -> bool:
        """Whether pixels that are off by one would explain every difference."""
        return max(self.differences.values()) <= NEAR[self.kind]

    @property
    def conforms(self) -> bool:
        """Whether every output of every golden image agrees within rounding."""
        return not self.differing and not self.missing and all(other.conforms for other in self.others)


def read_outputs(path: Path) -> dict[str, Any]:
    """Return the outputs in a JSON file by image name, without the folder.

    Raises ``DataError`` for any other file, and for an image that occurs twice.
    """
    try:
        outputs = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = reason(error) if isinstance(error, OSError) else "it is no JSON"
        raise DataError(f"{path} cannot be read ({what}); expected JSON: check the path and the file") from error
    if not isinstance(outputs, dict):
        raise DataError(f"{path} holds no JSON object; expected {{image name: [numbers]}}: name the images")
    if twice := [name for name, count in Counter(Path(name).name for name in outputs).items() if count > 1]:
        given = [name for name in outputs if Path(name).name == twice[0]]
        raise DataError(
            f"{path} has {len(given)} entries for {twice[0]} ({', '.join(given)}); expected one per golden image: "
            "remove the others"
        )
    return {Path(name).name: values for name, values in outputs.items()}


def check_outputs(outputs: Mapping[str, Any], folder: Path) -> Verdict:
    """Compare ``outputs``, by image name, with the golden ones in ``folder``.

    The outputs of an image are a list of logits or probabilities, or a mapping with the keys ``logits``,
    ``probabilities`` or ``calibrated`` to such lists. Raises ``DataError`` for anything else.
    """
    golden = read_golden(folder)
    for name in outputs:
        if name not in golden:
            raise DataError(f"{name} is no golden image; expected {', '.join(golden)}: name each entry after its file")
    kinds = _by_kind({name: _rows(name, golden[name], outputs[name]) for name in golden if name in outputs})
    if not kinds:
        raise DataError("there are 0 outputs; expected one per golden image: run the app over all of them")
    first, *others = (_verdict(kind, kinds[kind], golden, folder) for kind in OUTPUTS if kind in kinds)
    return replace(first, others=tuple(others))


def _verdict(kind: str, rows: Mapping[str, Row], golden: Mapping[str, GoldenImage], folder: Path) -> Verdict:
    differences = {name: float(np.abs(row - golden[name].outputs[kind]).max()) for name, row in rows.items()}
    missing = tuple(name for name in golden if name not in rows)
    verdict = Verdict(kind=kind, differences=differences, missing=missing)
    if verdict.is_near:
        return verdict
    mistake = explain(rows, kind, golden, folder, NEAR[kind])
    return replace(verdict, mistakes=(mistake,) if mistake else ())


def _rows(name: str, golden: GoldenImage, output: Any) -> dict[str, Row]:
    """Return the rows of one image by output name; a plain list has the name ``UNNAMED``."""
    classes = len(golden.outputs[LOGITS_NAME])
    if not isinstance(output, dict):
        return {UNNAMED: _row(name, output, classes)}
    if not output or (unknown := output.keys() - OUTPUTS.keys()):
        found = ", ".join(sorted(unknown)) if output else "nothing"
        raise DataError(f"the entry for {name} names {found}; expected one or more of {', '.join(OUTPUTS)}: name those")
    return {kind: _row(f"{name} ({kind})", values, classes) for kind, values in output.items()}


def _row(name: str, values: Any, classes: int) -> Row:
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the entry for {name} is no list of numbers; expected {classes} of them: give the logits"
        ) from error
    if row.shape != (classes,) or not np.isfinite(row).all():
        raise DataError(
            f"the entry for {name} has shape {row.shape} and {int(np.isfinite(row).sum())} finite numbers; expected "
            f"({classes},) and all finite: give the logits"
        )
    return row


def _by_kind(outputs: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows by output and image; plain lists are probabilities if all are distributions, else logits."""
    lists = [rows[UNNAMED] for rows in outputs.values() if UNNAMED in rows]
    unnamed = PROBABILITIES_NAME if all(map(_is_distribution, lists)) else LOGITS_NAME
    kinds: dict[str, dict[str, Row]] = {}
    for name, rows in outputs.items():
        for kind, row in rows.items():
            kinds.setdefault(kind or unnamed, {})[name] = row
    return kinds


def _is_distribution(row: Row) -> bool:
    return bool((row >= 0).all() and abs(row.sum() - 1) <= SUM_TOLERANCE)
