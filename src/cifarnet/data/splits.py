"""The validation split, and the test split of a folder that has none: pure functions of the images and a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import TrainConfig
from cifarnet.dataset import Dataset, Split, SplitBy
from cifarnet.errors import DataError

Indices = NDArray[np.int64]
"""int64 (n,), sorted: positions in a split."""

TEST_FRACTION = 0.2
"""Share of the images in the test split."""
LEAST_PER_CLASS = 3
"""One image each for training, validation and test."""
_HOLD_OUT_TAG = 0x686F_6C64
"""Separates this random stream from all others with the same seed (ASCII "hold")."""


@dataclass(frozen=True)
class HoldOut:
    """Positions of the training and of the validation images. They are disjoint and cover the whole split."""

    train: Indices
    validation: Indices

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the positions of both."""
        return hashlib.sha256(self.train.tobytes() + self.validation.tobytes()).hexdigest()


def hold_out(split: Split, fraction: float, seed: int, classes: int) -> HoldOut:
    """Hold out a stratified random share of the images; it depends only on labels, fraction and seed.

    Of the n images of a class, n * fraction are held out, rounded half to even, but at least 1 and at most n - 1.
    ``fraction`` is above 0 and below 1. Raises DataError if a class has fewer than two images.
    """
    rng = np.random.Generator(np.random.PCG64([seed, _HOLD_OUT_TAG]))
    is_held_out = np.zeros(len(split), np.bool_)
    for label in range(classes):
        is_held_out[_chosen(np.flatnonzero(split.labels == label), fraction, label, rng)] = True
    return HoldOut(train=_positions(~is_held_out), validation=_positions(is_held_out))


def hold_out_of(dataset: Dataset, config: TrainConfig) -> HoldOut:
    """Hold out validation images of a dataset's training split as ``config`` says, unless the dataset has its own.

    Raises as ``hold_out`` does.
    """
    if dataset.validation_images:
        positions, first = np.arange(len(dataset.train)), len(dataset.train) - dataset.validation_images
        return HoldOut(train=positions[:first], validation=positions[first:])
    return hold_out(dataset.train, config.validation_fraction, config.seed, len(dataset.labels))


def evenly_chosen(indices: Indices, most: int) -> Indices:
    """Return at most ``most`` of ``indices``, evenly spaced from the first to the last."""
    return indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(np.int64)]


def _chosen(members: NDArray[np.intp], fraction: float, label: int, rng: np.random.Generator) -> NDArray[np.intp]:
    count = len(members)
    if count < 2:
        raise DataError(
            f"class {label} (counting from 0) has {count} image(s) to divide; expected at least 2, one to train on "
            "and one to hold out: add images or remove the class"
        )
    return rng.permutation(members)[: min(max(round(count * fraction), 1), count - 1)]


def _positions(mask: NDArray[np.bool_]) -> Indices:
    return np.flatnonzero(mask).astype(np.int64)


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
