"""Quantize a model file to int8 with onnxruntime's tools, and compare the latency of a smaller file with float32."""

import io
import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from cifarnet.atomic import temporary_folder
from cifarnet.contract import INPUT_NAME, STANDARD_DOMAINS
from cifarnet.runtime import OpenedModel, open_model
from cifarnet.system import images_at_once

CALIBRATION_BATCH = 64
"""Images of 32x32 pixels, fewer if they are larger, in a call."""
METHODS = ("MinMax", "Percentile")
"""Names of ``onnxruntime.quantization.CalibrationMethod``.

Not Entropy: as ``quantize_static`` calls it, it merges 128 bins into 128 and gives the ranges of MinMax.
"""
OPERATORS = ("Conv", "Gemm", "MaxPool")
"""Quantized operators; rescaling, temperature and softmax stay in float32."""
BATCHES = (1, 256)
"""Batch sizes of images of 32x32 pixels, fewer if they are larger: a single image, and throughput."""
ROUNDS = 9
"""Rounds per file, alternating so that other load on the machine affects both."""
IMAGES_PER_ROUND = 256
"""Images of 32x32 pixels, fewer if they are larger."""


@dataclass(frozen=True)
class Variant:
    """One quantization scheme and its graph."""

    name: str
    graph: onnx.GraphProto
    opset: int


class _Images:
    """Calibration data reader of equally sized batches, which onnxruntime's histograms need."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        size = min(images_at_once(CALIBRATION_BATCH, images.shape[1:]), len(images))
        self._batches = iter(images[: len(images) // size * size].reshape(-1, size, *images.shape[1:]))

    def get_next(self) -> Mapping[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress output of onnxruntime's tools, such as advice to preprocess the graph."""
    root = logging.getLogger()
    root.addFilter(_reject)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(_reject)


def _reject(_: logging.LogRecord) -> bool:
    return False


def quantized(content: bytes, images: NDArray[np.uint8]) -> Iterator[Variant]:
    """Yield int8 variants of a float32 model file: two calibration methods, per channel and per tensor.

    ``images``, uint8 (n, h, w, 3), calibrate the ranges and must be training images. Activations are unsigned, weights
    signed with seven bits, since eight saturate on processors without VNNI, as Intel advises.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    for method in METHODS:
        for per_channel in (True, False):
            with temporary_folder() as folder:
                path = folder / "quantized.onnx"
                with _silence():
                    quantize_static(
                        onnx.load_from_string(content),
                        path,
                        _Images(images),
                        quant_format=QuantFormat.QDQ,
                        op_types_to_quantize=list(OPERATORS),
                        per_channel=per_channel,
                        reduce_range=True,
                        activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, method),
                        # Logits of eight bits would be coarse, and the new engine of OpenCV 5 cannot read them.
                        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
                    )
                model = onnx.load(path)
            (opset,) = (each.version for each in model.opset_import if each.domain in STANDARD_DOMAINS)
            yield Variant(f"{method}, {'per channel' if per_channel else 'per tensor'}", model.graph, opset)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median time per image at one batch size in one thread."""

    batch_size: int
    microseconds: float
    float32_microseconds: float

    @property
    def speedup(self) -> float:
        """Speedup relative to float32."""
        return self.float32_microseconds / self.microseconds


def compare_latency(content: bytes, float32: bytes) -> tuple[Latency, ...]:
    """Time a model file and its float32 counterpart on random images in one thread, for each batch size."""
    return tuple(_compare(open_model(content), open_model(float32), size) for size in BATCHES)


def _compare(model: OpenedModel, float32: OpenedModel, batch_size: int) -> Latency:
    shape = model.contract.image_shape
    batch_size = images_at_once(batch_size, shape)
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), np.uint8)
    calls = images_at_once(IMAGES_PER_ROUND, shape) // batch_size
    rounds = [(_seconds(model, images, calls), _seconds(float32, images, calls)) for _ in range(1 + ROUNDS)]
    times = zip(*rounds[1:], strict=True)  # the first warms up
    medians = [1e6 * statistics.median(column) / (calls * batch_size) for column in times]
    return Latency(batch_size=batch_size, microseconds=medians[0], float32_microseconds=medians[1])


def _seconds(model: OpenedModel, images: np.ndarray, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        model.run(images)
    return time.perf_counter() - start
