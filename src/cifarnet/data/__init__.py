"""Bring, prove, read and divide images: CIFAR-10, and a person's own."""

from .cache import CacheState, cache_folder, cache_state, verify
from .fetching import fetch
from .opening import open_dataset, open_labelled_images
from .order import batch_order
from .progress import Progress
from .split import HoldOut, Indices, evenly_chosen, hold_out, hold_out_of
from .synthetic import synthetic

__all__ = [
    "CacheState",
    "HoldOut",
    "Indices",
    "Progress",
    "batch_order",
    "cache_folder",
    "cache_state",
    "evenly_chosen",
    "fetch",
    "hold_out",
    "hold_out_of",
    "open_dataset",
    "open_labelled_images",
    "synthetic",
    "verify",
]
