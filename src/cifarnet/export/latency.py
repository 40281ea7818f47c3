"""Latency of a model file compared with float32 on this machine."""

import statistics
import time
from dataclasses import dataclass

import numpy as np

from cifarnet.runtime import OpenedModel, open_model

BATCHES = (1, 256)
"""Batch sizes: a single image, and throughput."""
ROUNDS = 9
"""Rounds per file, alternating so that other load on the machine affects both."""
IMAGES_PER_ROUND = 256


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
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *model.image_shape), np.uint8)
    times = [(_seconds(model, images), _seconds(float32, images)) for _ in range(1 + ROUNDS)][1:]  # the first warms up
    medians = [1e6 * statistics.median(column) / IMAGES_PER_ROUND for column in zip(*times, strict=True)]
    return Latency(batch_size=batch_size, microseconds=medians[0], float32_microseconds=medians[1])


def _seconds(model: OpenedModel, images: np.ndarray) -> float:
    start = time.perf_counter()
    for _ in range(IMAGES_PER_ROUND // len(images)):
        model.run(images)
    return time.perf_counter() - start
