"""How a model file holds up when its images are corrupted: accuracy by family and severity of CIFAR-10-C."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import ROBUSTNESS, Split
from cifarnet.errors import DataError, ModelError, RunError, UsageError
from cifarnet.runtime import OpenedModel

from .corruptions import DRAWING, FAMILIES, SEVERITIES, corrupt_at
from .intervals import Interval, wilson
from .scoring import predict

DEFAULT_IMAGES = 2000
"""That are taken: an accuracy is then known to about two points either way, in about a minute on two cores."""
BATCH = 200
"""Images that are corrupted and scored at once, whatever their number in all."""
CLEAN = "clean"
"""What ``advance`` is told of the images as they are, at severity 0."""
WORST = 3
"""Families that are named."""
_CHOICE_TAG = 0x726F_6275
"""Keeps this stream of random numbers apart from every other with the same seed (ASCII "robu")."""

Indices = NDArray[np.int64]
"""int64 (n,): positions in a split."""
Advance = Callable[[str, int], None]
"""Called with family and severity once they are measured."""
Corruption = Callable[[NDArray[np.uint8], Indices], NDArray[np.uint8]]
"""Images and their positions to other images."""


@dataclass(frozen=True)
class Tally:
    """How many of some images were classified correctly."""

    hits: int
    images: int

    @property
    def accuracy(self) -> float:
        """Fraction, 0 to 1."""
        return self.hits / self.images

    @property
    def interval(self) -> Interval:
        """Wilson's, 95 %, of the accuracy."""
        return wilson(self.hits, self.images)

    def to_json(self) -> dict[str, Any]:
        """Return hits, accuracy and interval as JSON values."""
        interval = self.interval
        return {"hits": self.hits, "accuracy": self.accuracy, "interval": [interval.low, interval.high]}


@dataclass(frozen=True)
class FamilyResult:
    """What became of the accuracy under one family of corruptions."""

    name: str
    tallies: tuple[Tally, ...]
    """One per severity, 1 to 5."""

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Fraction told rightly at each severity, 0 to 1."""
        return tuple(tally.accuracy for tally in self.tallies)

    @property
    def mean_error(self) -> float:
        """Mean over the severities of the fraction told wrongly, 0 to 1."""
        return 1 - fmean(self.accuracies)


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """How a model file holds up under the families of CIFAR-10-C, on some of the test images."""

    sha256: str
    """Of the model file, hex."""
    seed: int
    """Of the choice of images and of every corruption."""
    images_in_split: int
    """From which the images were chosen; how many, the tallies say."""
    clean: Tally
    """Of the images as they are."""
    families: tuple[FamilyResult, ...]
    """In the order of the paper."""
    drawing: str = DRAWING
    """How the corruptions are drawn; empty where an earlier version did not tell."""

    @property
    def mean_corruption_error(self) -> float:
        """Mean of the error over families and severities, 0 to 1; not divided by the errors of AlexNet, as mCE is."""
        return fmean(family.mean_error for family in self.families)

    @property
    def added_error(self) -> float:
        """By how much the mean corruption error exceeds the error on the clean images; below 0 where it does not."""
        return self.mean_corruption_error - (1 - self.clean.accuracy)

    @property
    def worst(self) -> tuple[FamilyResult, ...]:
        """The three families with the largest mean error, the largest first."""
        return tuple(sorted(self.families, key=lambda family: -family.mean_error)[:WORST])

    def to_json(self) -> dict[str, Any]:
        """Return what was counted and every figure that follows from it, as JSON values."""
        return {
            "sha256": self.sha256,
            "seed": self.seed,
            "images": self.clean.images,
            "images_in_split": self.images_in_split,
            "drawing": self.drawing,
            "clean": self.clean.to_json(),
            "families": {
                family.name: {
                    "mean_error": family.mean_error,
                    "severities": [tally.to_json() for tally in family.tallies],
                }
                for family in self.families
            },
            "mean_corruption_error": self.mean_corruption_error,
            "added_error": self.added_error,
            "worst": [family.name for family in self.worst],
        }

    @classmethod
    def from_json(cls, found: Any) -> "Robustness":
        """Return what ``to_json`` told, from what was counted. Raises ``RunError`` for anything else."""
        try:
            images = _count(found["images"], 1)
            return cls(
                sha256=str(found["sha256"]),
                seed=_count(found["seed"]),
                images_in_split=_count(found["images_in_split"], images),
                clean=_tally(found["clean"], images),
                families=tuple(_family(name, found["families"][name], images) for name in FAMILIES),
                drawing=str(found.get("drawing", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{ROBUSTNESS} is damaged ({error!r}); expected what `cifarnet robustness` wrote: run it again"
            ) from error


def _family(name: str, found: Any, images: int) -> FamilyResult:
    each = zip(found["severities"], SEVERITIES, strict=True)
    return FamilyResult(name, tuple(_tally(tally, images) for tally, _ in each))


def _tally(found: Any, images: int) -> Tally:
    return Tally(_count(found["hits"], most=images), images)


def _count(value: Any, least: int = 0, most: int | None = None) -> int:
    if type(value) is not int or value < least or (most is not None and value > most):
        raise ValueError(f"a count is {value!r}")
    return value


def measure_robustness(
    opened: OpenedModel,
    split: Split,
    *,
    sha256: str,
    images: int = DEFAULT_IMAGES,
    seed: int = 0,
    advance: Advance = lambda *_: None,
) -> Robustness:
    """Score a model on images of ``split`` as they are and under each corruption, in memory that does not grow.

    ``sha256`` is that of the model file; ``images`` is how many are taken at most, by ``choose_images``. An image is
    corrupted in the same way whichever others are chosen. Raises ``DataError`` for a split without images or with
    images of another size than the model's, ``UsageError`` for a number or seed that cannot be, ``ModelError`` where
    the model does not answer with finite numbers.
    """
    _require_size(opened, split)
    chosen = choose_images(split.labels, images, seed)

    def scored(family: str, severity: int, corruption: Corruption) -> Tally:
        tally = _scored(opened, split, chosen, corruption)
        advance(family, severity)
        return tally

    def at(family: str, severity: int) -> Tally:
        return scored(family, severity, lambda pixels, indices: corrupt_at(pixels, indices, family, severity, seed))

    return Robustness(
        sha256=sha256,
        seed=seed,
        images_in_split=len(split),
        clean=scored(CLEAN, 0, lambda pixels, _: pixels),
        families=tuple(FamilyResult(name, tuple(at(name, severity) for severity in SEVERITIES)) for name in FAMILIES),
    )


def _require_size(opened: OpenedModel, split: Split) -> None:
    if split.images.shape[1:] != opened.image_shape:
        raise DataError(
            f"images have shape {split.images.shape[1:]}; expected {opened.image_shape}, the model's input: "
            "use the images that it was trained on"
        )


def choose_images(labels: NDArray[np.int32], images: int, seed: int) -> Indices:
    """Return the positions of ``images`` of the labels (n,), or of all where there are fewer, sorted.

    Each class is shuffled by the seed and gives the same share of its images, to within one; the first of each class
    come first, so that with as many images as classes none is left out. A smaller choice is part of a larger one.
    Raises ``DataError`` for no labels, ``UsageError`` for fewer than one image and for a seed below 0.
    """
    if images < 1 or seed < 0:
        raise UsageError(f"{images} images, seed {seed}; expected at least 1 image and a seed ≥ 0: change them")
    if not len(labels):
        raise DataError("there are 0 images to corrupt; expected at least 1: add images to the split")
    rng = np.random.Generator(np.random.PCG64([_CHOICE_TAG, seed]))
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members)) / len(members)
    # A stable sort of what is in random order: classes whose turn it is at once come in no order of theirs.
    in_turn = order[np.argsort(turn[order], kind="stable")]
    return np.sort(in_turn[:images]).astype(np.int64)


def _scored(opened: OpenedModel, split: Split, chosen: Indices, corruption: Corruption) -> Tally:
    hits = 0
    for start in range(0, len(chosen), BATCH):
        indices = chosen[start : start + BATCH]
        logits = predict(opened.logits, corruption(split.images[indices], indices))
        if not np.isfinite(logits).all():
            raise ModelError("the model answers with numbers that are not finite; expected logits: export it anew")
        hits += int(np.count_nonzero(logits.argmax(axis=1) == split.labels[indices]))
    return Tally(hits, len(chosen))
