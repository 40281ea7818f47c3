"""Batches of several steps, with the images of the micro-batches that a worker computes, and their prefetching."""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import MicroBatch, Steps, Workers
from cifarnet.data.augmentation import Augmentation
from cifarnet.dataset import Split

Item = TypeVar("Item")


def own_positions(ranges: Sequence[MicroBatch], workers: Workers) -> NDArray[np.int64] | None:
    """Return the positions in a batch of the images in this worker's micro-batches, or None for all of them."""
    own = workers.own(len(ranges))
    return None if len(own) == len(ranges) else np.concatenate([np.arange(*ranges[index]) for index in own])


def filled_steps(
    split: Split,
    indices: NDArray[np.int64],
    count: int,
    rates: list[float],
    views: Augmentation,
    own: NDArray[np.int64] | None = None,
) -> Steps:
    """Return batches of equal size of the images at ``indices``; all but the first ``count`` have weight 0.

    They pad the last batch, so that nothing new is compiled. They are the first images of the epoch rather than copies
    from that batch, because batch normalization averages over them, too. With ``own``, the images at other positions of
    a batch stay black.
    """
    steps, weights = len(rates), np.zeros(len(indices), np.float32)
    weights[:count] = 1
    return Steps(
        images=_images(split, indices.reshape(steps, -1), views, own),
        labels=split.labels[indices].reshape(steps, -1),
        weights=weights.reshape(steps, -1),
        learning_rates=np.array(rates, np.float32),
    )


def _images(
    split: Split, indices: NDArray[np.int64], views: Augmentation, own: NDArray[np.int64] | None
) -> NDArray[np.uint8]:
    shape = split.images.shape[1:]
    chosen = indices.ravel() if own is None else indices[:, own].ravel()
    augmented = views(split.images[chosen], chosen).reshape(len(indices), -1, *shape)
    if own is None:
        return augmented
    images = np.zeros((*indices.shape, *shape), np.uint8)
    images[:, own] = augmented
    return images


def prefetched(items: Iterable[Item]) -> Generator[Item]:
    """Yield ``items``, and prefetch the next one in a thread. Its exceptions are raised here."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, iterator, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # `end` has no type of its own
