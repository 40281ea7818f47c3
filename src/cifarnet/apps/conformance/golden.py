"""The golden images with their expected outputs, and the golden model."""

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
"""Outputs for one image, (classes,)."""


@dataclass(frozen=True)
class GoldenImage:
    """A test image with its expected preprocessing and outputs."""

    path: Path
    what: str
    """Property that makes the image difficult."""
    pixels: NDArray[np.uint8]
    """Expected model input, (32, 32, 3)."""
    outputs: Mapping[str, Row]
    """Expected outputs by name."""


def read_golden(folder: Path) -> dict[str, GoldenImage]:
    """Return the golden images in ``folder`` by file name, the simplest first."""
    entries = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["images"]
    return {Path(entry["file"]).name: _image(folder, entry) for entry in entries}


def _image(folder: Path, entry: Mapping[str, Any]) -> GoldenImage:
    pixels = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(IMAGE_SHAPE)
    outputs = {name: np.array(entry[name]) for name in OUTPUTS}
    return GoldenImage(folder / entry["file"], entry["what"], pixels, outputs)


class FloatModel:
    """The golden model with a float input, which accepts wrongly scaled pixels."""

    def __init__(self, folder: Path) -> None:
        contract = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.temperature: float = contract["calibration"]["temperature"]
        self._session = onnxruntime.InferenceSession(folder / "floats.onnx", providers=["CPUExecutionProvider"])

    def logits(self, values: NDArray[Any]) -> Row:
        """Return the logits (classes,) of values (32, 32, 3) given in place of pixels 0-255."""
        (logits,) = self._session.run([LOGITS_NAME], {INPUT_NAME: values[None].astype(np.float32)})
        row: Row = logits[0].astype(np.float64)
        return row
