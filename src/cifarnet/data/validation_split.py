"""The validation split, a pure function of the labels and a seed."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import TrainConfig
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import ConfigError, DataError

Indices = NDArray[np.int64]
"""int64 (n,), sorted: positions in a split."""

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
    Raises ConfigError if fraction is not between 0 and 1, DataError if a class has fewer than two images.
    """
    if not 0 < fraction < 1 or seed < 0:
        raise ConfigError(f"hold-out fraction {fraction}, seed {seed}; expected 0 < fraction < 1 and seed ≥ 0")
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
