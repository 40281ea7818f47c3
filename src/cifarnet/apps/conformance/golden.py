"""The golden images and the right answers to them, and the fixed model that gives answers to wrong inputs too."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE, INPUT_NAME, LOGITS_NAME, OUTPUTS

Row = NDArray[np.float64]
"""One image's numbers, (classes,)."""


@dataclass(frozen=True)
class GoldenImage:
    """One image, what is awkward about it, and the right answers."""

    path: Path
    what: str
    pixels: NDArray[np.uint8]
    """What the model has to see, (32, 32, 3)."""
    answers: Mapping[str, Row]
    """By the names of the model's outputs."""


def read_golden(folder: Path) -> dict[str, GoldenImage]:
    """Return the golden images below ``folder`` by file name, the plainest first."""
    entries = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["images"]
    return {Path(entry["file"]).name: _image(folder, entry) for entry in entries}


def _image(folder: Path, entry: Mapping[str, Any]) -> GoldenImage:
    pixels = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(IMAGE_SHAPE)
    answers = {name: np.array(entry[name]) for name in OUTPUTS}
    return GoldenImage(folder / entry["file"], entry["what"], pixels, answers)


class FloatModel:
    """The golden model with a float input, for numbers that no byte can hold."""

    def __init__(self, folder: Path) -> None:
        contract = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.temperature: float = contract["calibration"]["temperature"]
        self._session = onnxruntime.InferenceSession(folder / "floats.onnx", providers=["CPUExecutionProvider"])

    def logits(self, values: NDArray[Any]) -> Row:
        """Return the logits (classes,) of values (32, 32, 3) that stand where pixels 0-255 should."""
        (logits,) = self._session.run([LOGITS_NAME], {INPUT_NAME: values[None].astype(np.float32)})
        row: Row = logits[0].astype(np.float64)
        return row
