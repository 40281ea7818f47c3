"""Accuracy of a model file on corrupted images, by corruption and severity of CIFAR-10-C.

The images are the published ones, or test images corrupted by ``corruptions``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import numpy_defaults
from cifarnet.contract import ROBUSTNESS
from cifarnet.dataset import Split
from cifarnet.errors import DataError, ModelError, RunError, UsageError
from cifarnet.runtime import OpenedModel
from cifarnet.system import images_at_once

from .corruptions import DRAWING, FAMILIES, SEVERITIES, corrupt_at
from .corruptions.published import EXTRA_FAMILIES, PUBLISHED, PublishedImages
from .scoring import predict
from .significance import Interval, wilson

DEFAULT_IMAGES = 2000
"""Default number of images: accuracies to within about 2 percentage points, in about a minute on two cores."""
BATCH = 200
"""Number of images of 32x32 pixels, fewer if they are larger, that are corrupted and evaluated at a time."""
CLEAN = "clean"
"""Name that ``advance`` receives for the uncorrupted images, with severity 0."""
WORST = 3
"""Number of corruptions in ``Robustness.worst``."""
_CHOICE_TAG = 0x726F_6275
"""Separates this random stream from all others with the same seed (ASCII "robu")."""

Indices = NDArray[np.int64]
"""int64 (n,): positions in a split."""
Advance = Callable[[str, int], None]
"""Called with family and severity after each measurement."""


@dataclass(frozen=True)
class Tally:
    """Number of correct predictions on a number of images."""

    hits: int
    images: int

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions, 0 to 1."""
        return self.hits / self.images

    @property
    def interval(self) -> Interval:
        """95% Wilson interval of the accuracy."""
        return wilson(self.hits, self.images)

    def to_json(self) -> dict[str, Any]:
        """Return hits, accuracy and interval as JSON values."""
        interval = self.interval
        return {"hits": self.hits, "accuracy": self.accuracy, "interval": [interval.low, interval.high]}


@dataclass(frozen=True)
class FamilyResult:
    """Results of one corruption at all severities."""

    name: str
    tallies: tuple[Tally, ...]
    """Result per severity, 1 to 5."""

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy at each severity, 0 to 1."""
        return tuple(tally.accuracy for tally in self.tallies)

    @property
    def mean_error(self) -> float:
        """Mean error rate over the severities, 0 to 1."""
        return 1 - fmean(self.accuracies)

    def to_json(self) -> dict[str, Any]:
        """Return mean error and tallies as JSON values."""
        return {"mean_error": self.mean_error, "severities": [tally.to_json() for tally in self.tallies]}


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Robustness of a model file to the corruptions of CIFAR-10-C, on a sample of the test images."""

    sha256: str
    """SHA-256 of the model file, hex."""
    seed: int
    """Seed of the image sample and of the corruptions; 0 for published images."""
    images_in_split: int
    """Number of images in the split from which the sample was taken."""
    clean: Tally
    """Result on the uncorrupted images."""
    families: tuple[FamilyResult, ...]
    """Results per corruption, in the order of the paper."""
    extra: tuple[FamilyResult, ...] = ()
    """Results on the additional corruptions of the published images, which no mean includes."""
    drawing: str = DRAWING
    """Origin of the corrupted images; empty if an earlier version did not record it."""

    @property
    def is_published(self) -> bool:
        """Whether the images are the published ones of CIFAR-10-C."""
        return self.drawing == PUBLISHED

    @property
    def mean_corruption_error(self) -> float:
        """Mean error rate over corruptions and severities, 0 to 1. Unlike mCE it is not relative to AlexNet."""
        return fmean(family.mean_error for family in self.families)

    @property
    def added_error(self) -> float:
        """Mean corruption error minus the error rate on clean images; may be negative."""
        return self.mean_corruption_error - (1 - self.clean.accuracy)

    @property
    def worst(self) -> tuple[FamilyResult, ...]:
        """The three corruptions with the largest mean error, largest first."""
        return tuple(sorted(self.families, key=lambda family: -family.mean_error)[:WORST])

    def to_json(self) -> dict[str, Any]:
        """Return the counts and all derived metrics as JSON values."""
        return {
            "sha256": self.sha256,
            "seed": self.seed,
            "images": self.clean.images,
            "images_in_split": self.images_in_split,
            "corrupted_images": "published" if self.is_published else "drawn",
            "drawing": self.drawing,
            "clean": self.clean.to_json(),
            "families": {family.name: family.to_json() for family in self.families},
            **({"extra": {family.name: family.to_json() for family in self.extra}} if self.extra else {}),
            "mean_corruption_error": self.mean_corruption_error,
            "added_error": self.added_error,
            "worst": [family.name for family in self.worst],
        }

    @classmethod
    def from_json(cls, document: Any) -> "Robustness":
        """Create an instance from the counts in the result of ``to_json``. Raises ``RunError`` for anything else."""
        try:
            images, extra = _count(document["images"], 1), document.get("extra", {})
            return cls(
                sha256=str(document["sha256"]),
                seed=_count(document["seed"]),
                images_in_split=_count(document["images_in_split"], images),
                clean=_tally(document["clean"], images),
                families=tuple(_family(name, document["families"][name], images) for name in FAMILIES),
                extra=tuple(_family(name, extra[name], images) for name in EXTRA_FAMILIES if name in extra),
                drawing=str(document.get("drawing", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{ROBUSTNESS} is damaged ({error!r}); expected what `cifarnet robustness` wrote: run it again"
            ) from error


def _family(name: str, document: Any, images: int) -> FamilyResult:
    tallies = zip(document["severities"], SEVERITIES, strict=True)
    return FamilyResult(name, tuple(_tally(tally, images) for tally, _ in tallies))


def _tally(document: Any, images: int) -> Tally:
    return Tally(_count(document["hits"], most=images), images)


def _count(value: Any, least: int = 0, most: int | None = None) -> int:
    if type(value) is not int or value < least or (most is not None and value > most):
        raise ValueError(f"a count is {value!r}")
    return value


@numpy_defaults()
def measure_robustness(
    opened: OpenedModel,
    split: Split,
    *,
    sha256: str,
    images: int = DEFAULT_IMAGES,
    seed: int = 0,
    published: PublishedImages | None = None,
    advance: Advance = lambda *_: None,
) -> Robustness:
    """Evaluate a model on images of ``split``, uncorrupted and under each corruption, batch by batch.

    ``sha256`` is the hash of the model file; ``images`` is the maximum sample size, see ``choose_images``. The
    corruption of an image does not depend on the rest of the sample. With ``published`` images of ``split``, all of
    them are used, and ``images`` and ``seed`` have no effect. Raises ``DataError`` if the split has no images or images
    of another size than the model's, ``UsageError`` for an invalid sample size or seed, ``ModelError`` if the logits
    are not finite.
    """
    _require_size(opened, split)
    chosen = choose_images(split.labels, len(split) if published else images, seed)

    def at(family: str, severity: int) -> Tally:
        def corrupted(indices: Indices) -> NDArray[np.uint8]:
            if published:
                return published.at(indices, family, severity)
            return corrupt_at(split.images[indices], indices, family, severity, seed)

        tally = _evaluated(
            opened, split.labels, chosen, corrupted if severity else lambda indices: split.images[indices]
        )
        advance(family, severity)
        return tally

    clean, names = at(CLEAN, 0), tuple(published.families) if published else FAMILIES
    families = tuple(FamilyResult(name, tuple(at(name, severity) for severity in SEVERITIES)) for name in names)
    return Robustness(
        sha256=sha256,
        seed=seed,
        images_in_split=len(split),
        clean=clean,
        families=families[: len(FAMILIES)],
        extra=families[len(FAMILIES) :],
        drawing=PUBLISHED if published else DRAWING,
    )


def _require_size(opened: OpenedModel, split: Split) -> None:
    if split.images.shape[1:] != opened.image_shape:
        raise DataError(
            f"images have shape {split.images.shape[1:]}; expected {opened.image_shape}, the model's input: "
            "use the images that it was trained on"
        )


def choose_images(labels: NDArray[np.int32], images: int, seed: int) -> Indices:
    """Return the sorted positions of a stratified random sample of at most ``images`` of the labels (n,).

    Each class contributes the same share of its images, to within one image, and every class at least one if
    ``images`` is at least the number of classes. A smaller sample is a subset of a larger one with the same seed.
    Raises ``DataError`` if there are no labels, ``UsageError`` for fewer than one image or a seed below 0.
    """
    if images < 1 or seed < 0:
        raise UsageError(f"{images} images, seed {seed}; expected at least 1 image and a seed ≥ 0: change them")
    if not len(labels):
        raise DataError("there are 0 images to corrupt; expected at least 1: add images to the split")
    rng = np.random.Generator(np.random.PCG64([_CHOICE_TAG, seed]))
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members)) / len(members)
    # A stable sort of a random order: images of different classes with the same rank stay in random order.
    ranked = order[np.argsort(rank[order], kind="stable")]
    return np.sort(ranked[:images]).astype(np.int64)


def _evaluated(
    opened: OpenedModel, labels: NDArray[np.int32], chosen: Indices, images: Callable[[Indices], NDArray[np.uint8]]
) -> Tally:
    hits = 0
    size = images_at_once(BATCH, opened.image_shape)
    for start in range(0, len(chosen), size):
        indices = chosen[start : start + size]
        logits = predict(opened.logits, images(indices))
        if not np.isfinite(logits).all():
            raise ModelError("the model returns values that are not finite; expected logits: export it again")
        hits += int(np.count_nonzero(logits.argmax(axis=1) == labels[indices]))
    return Tally(hits, len(chosen))
