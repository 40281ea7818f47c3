"""The recipe's network as others would write it: stock Keras layers, and a PyTorch module."""

from collections.abc import Mapping
from typing import Any

STOCK = {
    "pixel_range": "signed",
    "whitening": 0,
    "convolutions_per_block": 1,
    "ghost_batch": 0,
    "global_pooling": "none",
}
"""Fields of ``cifarnet.ModelConfig`` that the networks here know one value of."""


def beyond_stock(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``cifarnet.ModelConfig`` by which ``model`` is a network that cannot be built here."""
    return {name: model[name] for name, value in STOCK.items() if model.get(name, value) != value}
