"""The machine's peak rate, and the operations of a network: what every measured rate is compared with.

``run`` measures float32 matrix products, the operation that a processor does best, with numpy and torch at three sizes,
and reports the best rate of each round.
"""

import functools
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.harness.records import Results
from benchmarks.harness.rounds import Implementation
from benchmarks.harness.worker import Rounds, Task
from cifarnet.backends import settle
from cifarnet.config import ModelConfig

SIZES = (1024, 1536, 2048)
"""Rows and columns of the square matrices that are multiplied."""
TOY = {"matrix_sizes": [64], "numpy_alone": True}
"""Settings of a toy run."""
REPEATS = 3
PEAK = Implementation(name="matrix product", program="benchmarks.peak:run", group="limit")


def peak_rate(results: Results, cell: str, operations: int) -> float | None:
    """Return the images per second at the peak rate, for so many operations per image."""
    gflops = results.median(cell, PEAK.name, "gflops")
    return gflops * 1e9 / operations if gflops else None


def inference_operations(model: Mapping[str, Any]) -> int:
    """Return the multiplications and additions of one image from pixels to logits.

    ``model`` has the fields of ``cifarnet.ModelConfig``. Bias, activation, pooling and softmax, about a hundredth, are
    not counted.
    """
    return sum(operations for operations, _ in _layers(ModelConfig.from_json(model)))


def training_operations(model: Mapping[str, Any]) -> int:
    """Return the operations of one image in a training step, the optimizer's not counted.

    Forward, gradient of the weights and gradient of the inputs cost the same each. A layer that is not trained needs no
    gradient of its weights, and one with no trained layer before it none of its inputs.
    """
    total, trained_before = 0, False
    for operations, trained in _layers(ModelConfig.from_json(model)):
        total += operations * (1 + trained + trained_before)
        trained_before |= trained
    return total


@functools.cache
def _layers(config: ModelConfig) -> list[tuple[int, bool]]:
    """Return the operations of each convolution and dense layer for one image, forward, and whether it is trained."""
    settle()
    from cifarnet.model import build_model  # imports Keras, which ``run`` does without

    found = []
    for layer in build_model(config).layers:
        if hasattr(layer, "kernel"):
            pixels = math.prod(layer.output.shape[1:-1])  # 1 for a dense layer, which has none
            found.append((2 * math.prod(layer.kernel.shape) * pixels, layer.trainable))
    return found


def run(task: Task, rounds: Rounds) -> None:
    """Multiply matrices in each round."""
    sizes, with_torch = task.settings.get("matrix_sizes", SIZES), not task.settings.get("numpy_alone")
    products = [(size, product) for size in sizes for product in _products(size, with_torch=with_torch)]
    rounds.ready()
    while True:
        rounds.wait()
        rounds.done(gflops=max(_rate(size, product) for size, product in products))


def _products(size: int, *, with_torch: bool) -> Iterator[Callable[[], Any]]:
    import numpy as np

    one, other = np.random.default_rng(0).random((2, size, size), np.float32)
    yield lambda: one @ other
    if with_torch and importlib.util.find_spec("torch"):
        import torch

        first, second = torch.from_numpy(one), torch.from_numpy(other)
        yield lambda: first @ second


def _rate(size: int, product: Callable[[], Any]) -> float:
    """Return the best of a few rates, in GFLOP/s."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds) / 1e9
