"""The test split of a folder that has none, a pure function of its images and a seed."""

import hashlib
from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from cifarnet.dataset import Split, SplitBy
from cifarnet.errors import DataError

from .validation_split import hold_out

TEST_FRACTION = 0.2
"""Share of the images in the test split."""
LEAST_PER_CLASS = 3
"""One image each for training, validation and test."""


def chosen_for_test(
    split: Split,
    contents: Sequence[bytes],
    digests: Sequence[bytes],
    names: Sequence[str],
    seed: int,
    split_by: SplitBy,
) -> NDArray[np.bool_]:
    """Return which of the images of ``split`` are test images: bool (n,), about a fifth of each class.

    ``contents`` are the SHA-256 of the image files, ``digests`` those of their pixels, ``names`` those of the classes.
    Raises DataError for a class with less than three different images.
    """
    if split_by == "content":
        ranks = np.array([_rank(content, seed) for content in contents])
        return _without_copies(_chosen_by_rank(split, ranks, names), split, digests, ranks)
    return np.isin(np.arange(len(split)), hold_out(split, TEST_FRACTION, seed, len(names)).validation)


def _chosen_by_rank(split: Split, ranks: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.bool_]:
    """Choose the test images of each class by the bytes of their files and the seed: bool (n,).

    Adding or removing files does not move the other images between the splits, and copies of a file stay together. In
    a class so small that one split would be empty, the lowest rank is a test image and the two highest are not.
    """
    limits = [_limit(ranks[split.labels == label], name) for label, name in enumerate(names)]
    return ranks <= np.array(limits)[split.labels]


def _without_copies(
    is_test: NDArray[np.bool_], split: Split, digests: Sequence[bytes], ranks: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Move test images with the pixels of a training image, such as re-saved copies, to the training split.

    Training images never move, so that adding a copy does not turn one into a test image, except in a class that would
    have no test image left: all copies of some of its images become test images.
    """
    trained = set(compress(digests, ~is_test))
    kept: NDArray[np.bool_] = is_test & np.array([digest not in trained for digest in digests])
    for label in np.setdiff1d(split.labels, split.labels[kept]):
        chosen = _lowest_images(list(compress(digests, split.labels == label)), ranks[split.labels == label])
        kept |= np.array([digest in chosen for digest in digests])
    return kept


def _lowest_images(digests: Sequence[bytes], ranks: NDArray[np.float64]) -> set[bytes]:
    """Return the digests of about a fifth of the different images of a class: those with the lowest-ranked copies."""
    ordered = list(dict.fromkeys(digests[index] for index in np.argsort(ranks)))
    count = min(max(round(len(ordered) * TEST_FRACTION), 1), max(len(ordered) - LEAST_PER_CLASS + 1, 1))
    return set(ordered[:count])


def _rank(content: bytes, seed: int) -> float:
    """Return a uniformly distributed number from 0 to 1 for the SHA-256 ``content`` of a file and the seed.

    It does not depend on pixels, because lossy images decode differently in different versions of Pillow.
    """
    return int.from_bytes(hashlib.sha256(b"%d:" % seed + content).digest()[:8], "big") / 2**64


def _limit(ranks: NDArray[np.float64], name: str) -> float:
    """Return the highest rank of a test image, so that the class has at least one test image and two others."""
    different = np.unique(ranks)
    if len(different) < LEAST_PER_CLASS:
        raise DataError(
            f"class {name} has {len(different)} different image(s) among its {len(ranks)} files; expected at "
            f"least {LEAST_PER_CLASS}: add images that are no copies or remove the folder"
        )
    return float(np.clip(TEST_FRACTION, different[0], different[-LEAST_PER_CLASS]))
