"""The dataset of a run: what is recorded of it, and how to open it again."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cifarnet.dataset import CIFAR10_LABELS, IMAGE_SIZE, LARGEST_IMAGE_SIZE, NAMED_SOURCES, Dataset, SplitBy
from cifarnet.errors import DataError, RunError

from .typed_json import Positive, members

if TYPE_CHECKING:
    from cifarnet.data import Progress


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The dataset of a run. Fields as in ``Dataset``, images as counts."""

    source: str | None
    name: str
    fingerprint: str
    # Earlier versions recorded neither rule nor seed: they divided by position, with the seed of the training run.
    split_by: SplitBy | None = "position"
    split_seed: int | None = None
    image_size: Annotated[int, (IMAGE_SIZE, LARGEST_IMAGE_SIZE)] = IMAGE_SIZE
    train_images: int
    """Number of training images, including the validation split."""
    test_images: int
    labels: tuple[str, ...]
    validation_images: Positive | None = None
    """Number of validation images among them, from the folder ``val``; None if they were drawn."""
    skipped: Positive | None = None
    """Number of files that were skipped because they cannot be read; None if there were none."""
    test_digest: str | None = None
    """SHA-256 (hex) of the test images in the run folder; None if they were not kept."""

    @classmethod
    def of(cls, dataset: Dataset) -> "DataRecord":
        """Return what a run records of ``dataset``."""
        return cls(
            source=dataset.source,
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            split_by=dataset.split_by,
            split_seed=dataset.split_seed,
            image_size=dataset.image_size,
            train_images=len(dataset.train),
            test_images=len(dataset.test),
            labels=dataset.labels,
            validation_images=dataset.validation_images,
            skipped=len(dataset.reading.broken) or None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without the default size, and rule and seed if there are none."""
        omitted = {name for name in ("validation_images", "skipped", "test_digest") if getattr(self, name) is None}
        omitted |= {"image_size"} if self.image_size == IMAGE_SIZE else set()
        document = {name: value for name, value in members(self).items() if name not in omitted}
        if self.split_by == "position" and self.split_seed is None:
            del document["split_by"], document["split_seed"]
        return document

    def resolved(self, seed: int) -> "DataRecord":
        """Return the record with rule and seed of the test split; ``seed`` is that of the training run."""
        split_seed = seed if self.split_seed is None else self.split_seed
        return replace(self, split_by=self.split_by or "content", split_seed=split_seed)

    def load_dataset(
        self, place: str | None = None, progress: "Progress | None" = None, *, skip_broken: bool = False
    ) -> Dataset:
        """Open the images of a resolved record, from ``place`` if given, and split them as for the training run.

        Files that cannot be read are skipped with ``skip_broken``, or if the run skipped them. Raises ``DataError`` if
        the location of the images is unknown or does not exist, and for CIFAR-10 in place of images of other classes.
        """
        from cifarnet.data import load_dataset  # imports numpy, which --help does not need

        source = place or self.source
        if source is None or not (place or source in NAMED_SOURCES or os.path.lexists(source)):
            fault = "whose location is unknown" if source is None else "which was not found"
            raise DataError(
                f"the model was trained on {source or self.name}, {fault}; expected --data with its location, in "
                "Python dataset="
            )
        if source == "cifar10" and self.labels not in ((), CIFAR10_LABELS):  # before a download
            raise DataError(
                f"{source} has the classes {', '.join(CIFAR10_LABELS)}; expected {', '.join(self.labels)}: pass images "
                "of those classes"
            )
        return load_dataset(
            source,
            seed=self.split_seed or 0,
            split_by=self.split_by or "content",
            image_size=self.image_size,
            progress=progress,
            skip_broken=skip_broken or self.skipped is not None,
            use_validation_folder=self.validation_images is not None,
        )


def require_outside(place: Path, source: str | None, option: str) -> None:
    """Raise ``RunError`` if files in ``place``, which ``option`` names, would be taken for images of ``source``."""
    if source is None or source in NAMED_SOURCES:
        return
    images = Path(source)
    links = [
        link for pattern in ("*", "train/*", "test/*", "val*/*") for link in images.glob(pattern) if link.is_symlink()
    ]
    if any(place.resolve().is_relative_to(folder.resolve()) for folder in (images, *links)):
        raise RunError(
            f"the files would be written to {place}, inside the images in {source}; expected another folder: name one "
            f"({option})"
        )
