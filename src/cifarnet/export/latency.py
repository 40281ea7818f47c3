"""How fast a smaller file is on this machine, against the file that it was made from."""

import statistics
import time
from dataclasses import dataclass

import numpy as np

from cifarnet.runtime import OpenedModel, open_model

BATCHES = (1, 256)
"""One image as an app has it, and many at once."""
ROUNDS = 9
"""Turns of each file, taken alternately so that what else the machine does meets both."""
IMAGES_PER_ROUND = 256


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median times per image in one batch size, one thread."""

    batch_size: int
    microseconds: float
    float32_microseconds: float

    @property
    def speedup(self) -> float:
        """How many times as fast as float32; 1 and less is not faster."""
        return self.float32_microseconds / self.microseconds


def compare_latency(content: bytes, plain: bytes) -> tuple[Latency, ...]:
    """Time a model file against the float32 one on noise, in one thread, and return the medians per batch size."""
    return tuple(_compare(open_model(content), open_model(plain), size) for size in BATCHES)


def _compare(model: OpenedModel, plain: OpenedModel, batch_size: int) -> Latency:
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *model.image_shape), np.uint8)
    times = [(_seconds(model, images), _seconds(plain, images)) for _ in range(1 + ROUNDS)][1:]  # the first warms up
    medians = [1e6 * statistics.median(column) / IMAGES_PER_ROUND for column in zip(*times, strict=True)]
    return Latency(batch_size=batch_size, microseconds=medians[0], float32_microseconds=medians[1])


def _seconds(model: OpenedModel, images: np.ndarray) -> float:
    began = time.perf_counter()
    for _ in range(IMAGES_PER_ROUND // len(images)):
        model.run(images)
    return time.perf_counter() - began
