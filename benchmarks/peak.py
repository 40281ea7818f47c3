"""The machine's peak rate, and the operations of a network: what every measured rate is compared with.

``run`` measures float32 matrix products, the operation that a processor does best, with numpy and torch at three sizes,
and reports the best rate of each round.
"""

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.harness.records import Results
from benchmarks.harness.rounds import Implementation
from benchmarks.harness.worker import Rounds, Task
from benchmarks.networks import kernel_shapes, output_sizes

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

    ``model`` has the fields of ``cifarnet.ModelConfig``, for one of the networks in ``benchmarks.networks``. Bias,
    activation, pooling and softmax, about a hundredth, are not counted.
    """
    return sum(_operations(model))


def training_operations(model: Mapping[str, Any]) -> int:
    """Return the operations of one image in a training step, the optimizer's not counted.

    Forward, gradient of the weights and gradient of the inputs cost the same each; the first layer needs no gradient of
    its inputs.
    """
    operations = _operations(model)
    return 3 * sum(operations) - operations[0]


def _operations(model: Mapping[str, Any]) -> list[int]:
    """Return the operations of each convolution and dense layer."""
    shapes = kernel_shapes(model)
    pixels = [height * width for height, width in output_sizes(model)] + [1] * len(shapes)
    return [2 * math.prod(shape) * count for shape, count in zip(shapes, pixels, strict=False)]


def run(task: Task, rounds: Rounds) -> None:
    """Multiply matrices in each round."""
    sizes, with_torch = task.settings.get("matrix_sizes", SIZES), not task.settings.get("numpy_alone")
    products = [(size, product) for size in sizes for product in _products(size, with_torch=with_torch)]
    rounds.ready()
    while True:
        rounds.wait()
        rounds.done(gflops=max(_rate(size, product) for size, product in products))


def _products(size: int, *, with_torch: bool) -> Iterator[Callable[[], Any]]:
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
