"""Find the fewest mistakes that together explain an app's numbers, by making them."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby, product
from math import inf
from typing import Any

import numpy as np
from PIL import Image

from cifarnet.spec import IMAGE_SHAPE

from .golden import FloatModel, GoldenImage, Row
from .mistakes import (
    CUTS,
    DEPTHS,
    HEADS,
    LAYOUTS,
    OPACITIES,
    ORIENTATIONS,
    RANGES,
    RIGHT,
    SCALINGS,
    SECOND_SOFTMAX,
)

Way = tuple[str, ...]
"""How an app goes from a file to its numbers: the name of what it does in each step."""

PICTURE_STEPS: tuple[Mapping[str, Any], ...] = (ORIENTATIONS, DEPTHS, OPACITIES, CUTS, SCALINGS)
STEPS = (*PICTURE_STEPS, LAYOUTS, RANGES)
SECOND_SOFTMAX_SLOPE = 0.25
"""A softmax of probabilities changes by at most a quarter of what they change by: the largest p * (1 - p). Divided by
a temperature above 1, as the golden one is, by less."""


class Imitation:
    """The golden model behind an app of any mistakes. It remembers what it computed: most ways share most of it."""

    def __init__(self, golden: Mapping[str, GoldenImage], model: FloatModel) -> None:
        self._golden, self._model = golden, model
        self._pixels_of, self._logits_of = cache(self._pixels), cache(self._logits)

    def answer(self, name: str, way: Way, kind: str) -> Row:
        """Return the numbers of a ``kind``, an output's name, that an app which goes this way has for an image."""
        *picture, layout, scale, head = way
        logits = self._logits_of(self._pixels_of(name, *picture), layout, scale)
        return HEADS[kind][head](logits, self._model.temperature)

    def _pixels(self, name: str, orientation: str, depth: str, opacity: str, cut: str, scaling: str) -> bytes:
        with Image.open(self._golden[name].path) as image:
            opaque = OPACITIES[opacity](DEPTHS[depth](ORIENTATIONS[orientation](image)))
            return np.asarray(CUTS[cut](opaque, SCALINGS[scaling])).tobytes()

    def _logits(self, pixels: bytes, layout: str, scale: str) -> Row:
        values = np.frombuffer(pixels, np.uint8).reshape(IMAGE_SHAPE).astype(np.float64)
        return self._model.logits(RANGES[scale](LAYOUTS[layout](values)))


def explain(rows: Mapping[str, Row], kind: str, imitation: Imitation, limit: float) -> tuple[str, ...]:
    """Return the names of the fewest mistakes that together give every row, each number within ``limit``.

    Of several sets of one size the nearest counts. Returns no name where no combination of known mistakes fits.
    """
    for _, ways in groupby(_ways(kind), key=_mistakes):
        misfits = {way: _misfit(way, rows, kind, imitation, limit) for way in ways}
        nearest = min(misfits, key=misfits.__getitem__)
        if misfits[nearest] < inf:
            return tuple(name for name in nearest if name != RIGHT)
    return ()


def _ways(kind: str) -> Iterator[Way]:
    """Return every way to answers of this kind, those with the fewest mistakes first."""
    return iter(sorted(product(*STEPS, HEADS[kind]), key=_mistakes))


def _mistakes(way: Way) -> int:
    return sum(name != RIGHT for name in way)


def _misfit(way: Way, rows: Mapping[str, Row], kind: str, imitation: Imitation, limit: float) -> float:
    """Return the largest difference, or infinity as soon as one is beyond ``limit``: most ways end at the first row."""
    worst, bound = 0.0, limit * (SECOND_SOFTMAX_SLOPE if way[-1] in SECOND_SOFTMAX else 1)
    for name, row in rows.items():
        worst = max(worst, float(np.abs(row - imitation.answer(name, way, kind)).max()))
        if worst > bound:
            return inf
    return worst
