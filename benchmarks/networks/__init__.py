"""The recipe's network as others would write it: stock Keras layers, a PyTorch module, and plain arrays."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

STOCK = {
    "pixel_range": "signed",
    "whitening": 0,
    "convolutions_per_block": 1,
    "ghost_batch": 0,
    "global_pooling": "none",
}
"""Fields of ``cifarnet.ModelConfig`` that the networks here support with one value alone."""


def beyond_stock(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``cifarnet.ModelConfig`` whose values the networks here do not support."""
    return {name: model[name] for name, value in STOCK.items() if model.get(name, value) != value}


def output_sizes(model: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return height and width behind each convolution, before its pooling."""
    (height, width, _), sizes = model["image_shape"], []
    shrink = 0 if model["padding"] == "same" else model["kernel_size"] - 1
    for _ in model["filters"]:
        sizes.append((height - shrink, width - shrink))
        height, width = (height - shrink) // 2, (width - shrink) // 2
    return sizes


def kernel_shapes(model: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the shape of each kernel as Keras lays it out, convolutions first."""
    (height, width), size = output_sizes(model)[-1], model["kernel_size"]
    filters = [model["image_shape"][-1], *model["filters"]]
    units = [(height // 2) * (width // 2) * filters[-1], *model["dense_units"], model["classes"]]
    return [*((size, size, *pair) for pair in pairwise(filters)), *pairwise(units)]


def initial_kernels(model: Mapping[str, Any], seed: int) -> list[NDArray[np.float32]]:
    """Return kernels drawn by He's rule."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32) for shape in kernel_shapes(model)]
