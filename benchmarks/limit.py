"""What the machine can do and what the network asks of it: the limit that every rate is held against.

The contender of this module measures float32 matrix products, the operation that a processor does best, with numpy and
torch at three sizes, and gives the best rate that it found in each turn.
"""

import importlib.util
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness.contest import Contender
from benchmarks.harness.turns import Task, Turns

SIZES = (1024, 1536, 2048)
"""Rows and columns of the square matrices that are multiplied."""
REPEATS = 3
LIMIT = Contender(name="matrix product", module="benchmarks.limit", group="limit")


def operations_of_layers(model: Mapping[str, Any]) -> list[int]:
    """Return the multiplications and additions of each layer for one image, forward, from the layers' shapes.

    ``model`` holds the fields of ``cifarnet.ModelConfig``. Bias, activation, pooling and softmax are not counted: they
    are a hundredth of it.
    """
    height, width, channels = model["image_shape"]
    shrink = 0 if model["padding"] == "same" else model["kernel_size"] - 1
    counts = []
    for filters in model["filters"]:
        for _ in range(model["convolutions_per_block"]):
            height, width = height - shrink, width - shrink
            counts.append(2 * height * width * model["kernel_size"] ** 2 * channels * filters)
            channels = filters
        height, width = height // 2, width // 2
    widths = [height * width * channels, *model["dense_units"], model["classes"]]
    return counts + [2 * before * after for before, after in itertools.pairwise(widths)]


def inference_operations(model: Mapping[str, Any]) -> int:
    """Return the operations that one image needs from pixels to logits."""
    return sum(operations_of_layers(model))


def training_operations(model: Mapping[str, Any]) -> int:
    """Return the operations that one image needs in a training step.

    Forward, gradient of the weights and gradient of the inputs cost the same each; the first layer's inputs are pixels
    and need no gradient. The optimizer's work, which depends on the batch size, is not counted.
    """
    counts = operations_of_layers(model)
    return 3 * sum(counts) - counts[0]


def contend(task: Task, turns: Turns) -> None:
    """Multiply matrices, the best of both libraries and all sizes in each turn."""
    sizes, with_torch = task.settings.get("matrix_sizes", SIZES), not task.settings.get("numpy_alone")
    products = [product for size in sizes for product in _products(size, with_torch=with_torch)]
    turns.ready()
    while True:
        turns.wait()
        turns.done(gflops=max(_rate(size, product) for size, product in products))


def _products(size: int, *, with_torch: bool) -> list[tuple[int, Callable[[], Any]]]:
    import numpy as np

    rng = np.random.default_rng(0)
    one, other = (rng.random((size, size), np.float32) for _ in range(2))
    found: list[tuple[int, Callable[[], Any]]] = [(size, lambda: one @ other)]
    if not with_torch or importlib.util.find_spec("torch") is None:
        return found
    import torch

    first, second = torch.from_numpy(one), torch.from_numpy(other)
    return [*found, (size, lambda: first @ second)]


def _rate(size: int, product: Callable[[], Any]) -> float:
    """Return the best of a few rates, in GFLOP/s."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds) / 1e9
