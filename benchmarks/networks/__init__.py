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


def kernel_shapes(model: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the shape of each kernel as Keras lays it out, convolutions first."""
    (height, width, channels), size = model["image_shape"], model["kernel_size"]
    shrink = 0 if model["padding"] == "same" else size - 1
    for _ in model["filters"]:
        height, width = (height - shrink) // 2, (width - shrink) // 2
    filters = [channels, *model["filters"]]
    units = [height * width * filters[-1], *model["dense_units"], model["classes"]]
    return [*((size, size, *pair) for pair in pairwise(filters)), *pairwise(units)]


def initial_kernels(model: Mapping[str, Any], seed: int) -> list[NDArray[np.float32]]:
    """Return kernels drawn by He's rule."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32) for shape in kernel_shapes(model)]
