"""What the machine can do and what the network asks of it: the limit that every rate is held against.

The contender of this module measures float32 matrix products, the operation that a processor does best, with numpy and
torch at three sizes, and gives the best rate that it found in each turn.
"""

import functools
import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness.contest import Contender
from benchmarks.harness.turns import Task, Turns
from cifarnet.backends import settle
from cifarnet.config import ModelConfig

SIZES = (1024, 1536, 2048)
"""Rows and columns of the square matrices that are multiplied."""
REPEATS = 3
LIMIT = Contender(name="matrix product", module="benchmarks.limit", group="limit")


def inference_operations(model: Mapping[str, Any]) -> int:
    """Return the multiplications and additions that one image needs from pixels to logits.

    ``model`` holds the fields of ``cifarnet.ModelConfig``. Bias, activation, pooling and softmax are not counted: they
    are a hundredth of it.
    """
    return sum(operations for operations, _ in _layers(ModelConfig.from_json(model)))


def training_operations(model: Mapping[str, Any]) -> int:
    """Return the operations that one image needs in a training step.

    Forward, gradient of the weights and gradient of the inputs cost the same each. A layer that is not trained needs no
    gradient of its weights, and one with no trained layer before it none of its inputs. The optimizer's work, which
    depends on the batch size, is not counted.
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
    from cifarnet.model.network import build_model  # imports Keras, which the contender of this module does without

    found = []
    for layer in build_model(config).layers:
        if hasattr(layer, "kernel"):
            pixels = math.prod(layer.output.shape[1:-1])  # 1 for a dense layer, which has none
            found.append((2 * math.prod(layer.kernel.shape) * pixels, layer.trainable))
    return found


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
