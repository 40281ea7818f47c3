"""Accuracy of a model file under the corruptions of CIFAR-10-C, on generated images or on the published ones."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import numpy_defaults
from cifarnet.contract import Fraction
from cifarnet.dataset import CIFAR10_FINGERPRINT, Dataset, Split
from cifarnet.errors import DataError, reason
from cifarnet.run.typed_json import Finite, Positive, read
from cifarnet.runtime import OpenedModel
from cifarnet.system import images_at_once

from .corruptions import DRAWING, FAMILIES, SEVERITIES, corrupt_at
from .scoring import predict, require_finite
from .significance import wilson

PUBLISHED = "published arrays of CIFAR-10-C (Hendrycks and Dietterich 2019), https://zenodo.org/records/2535967"
"""Note stored with results on these images."""
EXTRA_FAMILIES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Names of the additional corruptions, which the mean over the standard corruptions leaves out."""
DEFAULT_IMAGES = 2000
"""Default number of images: accuracies to within about 2 percentage points, in about a minute on two cores."""
BATCH = 200
"""Number of images of 32x32 pixels, fewer if they are larger, that are corrupted and evaluated at a time."""
CLEAN = "clean"
"""Name that ``advance`` receives for the uncorrupted images, with severity 0."""
WORST = 3
"""Number of the worst corruptions that are named."""
Indices = NDArray[np.int64]
"""int64 (n,): positions in a split."""
_CHOICE_TAG = 0x726F_6275
"""Separates this random stream from all others with the same seed (ASCII "robu")."""


@dataclass(frozen=True)
class Tally:
    """Correct predictions on some images."""

    hits: int
    accuracy: Fraction
    interval: tuple[Fraction, ...]
    """Low and high end of the 95% Wilson interval of the accuracy."""

    @classmethod
    def of(cls, hits: int, images: int) -> "Tally":
        """Return the tally of ``hits`` correct predictions."""
        interval = wilson(hits, images)
        return cls(hits, hits / images, (interval.low, interval.high))


@dataclass(frozen=True)
class FamilyResult:
    """Results of one corruption at all severities."""

    mean_error: Fraction
    severities: tuple[Tally, ...]
    """Result per severity, 1 to 5."""

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> "FamilyResult":
        """Return the result with these ``tallies``, one per severity."""
        severities = tuple(tallies)
        return cls(1 - fmean(tally.accuracy for tally in severities), severities)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy at each severity, 0 to 1."""
        return tuple(tally.accuracy for tally in self.severities)


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Robustness of a model file to the corruptions of CIFAR-10-C, on a sample of the test images."""

    sha256: str
    """SHA-256 of the model file, hex."""
    seed: int
    """Seed of the image sample and of the corruptions; 0 for published images."""
    images: Positive
    images_in_split: Positive
    """Number of images in the split from which the sample was taken."""
    corrupted_images: str = "drawn"
    """``published`` or ``drawn``."""
    drawing: str = ""
    """Origin of the corrupted images; empty if an earlier version did not record it."""
    clean: Tally
    families: dict[str, FamilyResult]
    """Results by corruption, in the order of the paper."""
    extra: dict[str, FamilyResult]
    """Results on the additional corruptions of the published images, which no mean includes."""
    mean_corruption_error: Fraction
    """Mean error rate over corruptions and severities. Unlike mCE it is not relative to AlexNet."""
    added_error: Finite
    """Mean corruption error minus the error rate on clean images."""
    worst: tuple[str, ...]
    """The corruptions with the largest mean error, largest first."""

    @property
    def is_published(self) -> bool:
        """Whether the images are the published ones of CIFAR-10-C."""
        return self.drawing == PUBLISHED

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without ``extra`` if it is empty."""
        return {name: value for name, value in asdict(self).items() if name != "extra" or value}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Robustness":
        """Return the result that ``to_json`` wrote. Raises ``ValueError`` for anything else."""
        found: Robustness = read(cls, {"extra": {}} | document, "")
        results = [found.families.get(name) for name in FAMILIES]
        if not all(each and len(each.severities) == len(SEVERITIES) for each in (*results, *found.extra.values())):
            raise ValueError("a corruption or a severity is missing")
        return found


@numpy_defaults()
def measure_robustness(
    opened: OpenedModel,
    split: Split,
    *,
    sha256: str,
    images: int = DEFAULT_IMAGES,
    seed: int = 0,
    published: Mapping[str, NDArray[np.uint8]] | None = None,
    advance: Callable[[str, int], None] = lambda *_: None,
) -> Robustness:
    """Evaluate a model on images of ``split``, uncorrupted and under each corruption, batch by batch.

    ``sha256`` is the hash of the model file; ``images`` is the maximum sample size, see ``choose_images``. The
    corruption of an image does not depend on the rest of the sample. With ``published`` images of ``split``, all of
    them are used, and ``images`` and ``seed`` have no effect. Calls ``advance`` with family and severity after each
    measurement. Raises ``DataError`` if the logits are not finite.
    """
    chosen = choose_images(split.labels, len(split) if published else images, seed)

    def at(family: str, severity: int) -> Tally:
        def corrupted(indices: Indices) -> NDArray[np.uint8]:
            if published:
                return np.asarray(published[family][(severity - 1) * len(split) + indices])
            return corrupt_at(split.images[indices], indices, family, severity, seed)

        drawn = corrupted if severity else split.images.__getitem__
        tally = _evaluated(opened, split.labels, chosen, drawn)
        advance(family, severity)
        return tally

    clean, names = at(CLEAN, 0), tuple(published or FAMILIES)
    results = {name: FamilyResult.of(at(name, severity) for severity in SEVERITIES) for name in names}
    families = {name: results.pop(name) for name in FAMILIES}
    error = fmean(each.mean_error for each in families.values())
    return Robustness(
        sha256=sha256,
        seed=seed,
        images=len(chosen),
        images_in_split=len(split),
        corrupted_images="published" if published else "drawn",
        drawing=PUBLISHED if published else DRAWING,
        clean=clean,
        families=families,
        extra=results,
        mean_corruption_error=error,
        added_error=error - (1 - clean.accuracy),
        worst=tuple(sorted(families, key=lambda name: -families[name].mean_error)[:WORST]),
    )


def choose_images(labels: NDArray[np.int32], images: int, seed: int) -> Indices:
    """Return the sorted positions of a stratified random sample of at most ``images`` of the labels (n,).

    Each class contributes the same share of its images, to within one image, and every class at least one if
    ``images`` is at least the number of classes. A smaller sample is a subset of a larger one with the same seed.
    """
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
    opened: OpenedModel,
    labels: NDArray[np.int32],
    chosen: Indices,
    images: Callable[[Indices], NDArray[np.uint8]],
) -> Tally:
    hits = 0
    size = images_at_once(BATCH, opened.contract.image_shape)
    for start in range(0, len(chosen), size):
        indices = chosen[start : start + size]
        logits = predict(opened.logits, images(indices))
        require_finite(logits)
        hits += int(np.count_nonzero(logits.argmax(axis=1) == labels[indices]))
    return Tally.of(hits, len(chosen))


def open_published(folder: Path, dataset: Dataset) -> dict[str, NDArray[np.uint8]]:
    """Return the published arrays of CIFAR-10-C in ``folder``, by corruption, memory-mapped.

    Each has the test images of ``dataset``, uint8 (5 * images, 32, 32, 3), RGB, at severity 1, then 2 and so on; the
    additional corruptions come last. Raises ``DataError`` for missing or other files, and a dataset but CIFAR-10.
    """
    if dataset.fingerprint != CIFAR10_FINGERPRINT:
        raise DataError(
            f"{dataset.name} has the fingerprint {dataset.fingerprint[:12]}; expected {CIFAR10_FINGERPRINT[:12]}, "
            "CIFAR-10, whose test images the arrays of --cifar10c show: add --data cifar10, or leave out --cifar10c"
        )
    _require_labels(folder / "labels.npy", dataset)
    extra = [name for name in EXTRA_FAMILIES if (folder / f"{name}.npy").is_file()]
    shape = (len(SEVERITIES) * len(dataset.test), *dataset.test.images.shape[1:])
    return {name: _images(folder / f"{name}.npy", shape) for name in (*FAMILIES, *extra)}


def _require_labels(path: Path, dataset: Dataset) -> None:
    expected = np.tile(dataset.test.labels, len(SEVERITIES))
    if not np.array_equal(found := _opened(path), expected):
        raise DataError(
            f"{path} has dtype {found.dtype} and shape {found.shape}; expected the {len(expected)} test labels of "
            f"{dataset.name} in their order at five severities: download it again"
        )


def _images(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    found = _opened(path)
    if found.dtype != np.uint8 or found.shape != shape:
        raise DataError(
            f"{path} has dtype {found.dtype} and shape {found.shape}; expected uint8 {shape}: download it again"
        )
    return found


def _opened(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({reason(error)}); expected an array of CIFAR-10-C: extract CIFAR-10-C.tar there"
        ) from error
