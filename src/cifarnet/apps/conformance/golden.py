"""The golden images with their expected outputs, and the golden model."""

import base64
import json
from collections.abc import Callable, Mapping
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
    pixels: NDArray[np.uint8]
    """Expected model input, (32, 32, 3)."""
    outputs: Mapping[str, Row]
    """Expected outputs by name."""


def read_golden(folder: Path) -> dict[str, GoldenImage]:
    """Return the golden images in ``folder`` by file name, the simplest first."""
    images = {}
    for entry in json.loads((folder / "golden.json").read_text(encoding="utf-8"))["images"]:
        pixels = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(IMAGE_SHAPE)
        path = folder / entry["file"]
        images[path.name] = GoldenImage(path, pixels, {name: np.array(entry[name]) for name in OUTPUTS})
    return images


def open_float_model(folder: Path) -> tuple[Callable[[NDArray[Any]], Row], float]:
    """Return the golden model with a float input, which accepts wrongly scaled pixels, and its temperature.

    The model maps values (32, 32, 3), given in place of pixels 0-255, to logits (classes,).
    """
    contract = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "floats.onnx", providers=["CPUExecutionProvider"])

    def logits(values: NDArray[Any]) -> Row:
        (found,) = session.run([LOGITS_NAME], {INPUT_NAME: values[None].astype(np.float32)})
        return np.asarray(found[0], np.float64)

    return logits, contract["calibration"]["temperature"]
