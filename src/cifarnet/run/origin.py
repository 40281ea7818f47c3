"""Location of a run's images, and how to reload them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifarnet.dataset import CIFAR10_LABELS, IMAGE_SIZE, NAMED_SOURCES, Dataset, SplitBy
from cifarnet.errors import DataError, RunError

if TYPE_CHECKING:
    from cifarnet.data import Progress


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The images that a classifier was trained on."""

    source: str | None
    """Argument of ``load_dataset``, or None if unknown."""
    name: str
    fingerprint: str
    split_by: SplitBy
    """How the test split of a folder without one is chosen."""
    split_seed: int
    """Seed of that choice, or of the synthetic images."""
    image_size: int = IMAGE_SIZE
    """Height and width of the images of a folder, in pixels."""
    use_validation_folder: bool = False
    """Whether the validation images are those of a folder ``val``, which earlier versions ignored."""
    skip_broken: bool = False
    """Whether files that cannot be read were skipped."""
    labels: tuple[str, ...] = ()
    """Class names; empty if unknown."""

    def load_dataset(
        self, place: str | None = None, progress: "Progress | None" = None, *, skip_broken: bool = False
    ) -> Dataset:
        """Open the images, from ``place`` if given, and split them as for the training run.

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
            seed=self.split_seed,
            split_by=self.split_by,
            image_size=self.image_size,
            progress=progress,
            skip_broken=skip_broken or self.skip_broken,
            use_validation_folder=self.use_validation_folder,
        )


def require_outside(place: Path, source: str | None, option: str) -> None:
    """Raise ``RunError`` if files in ``place`` would be taken for images of ``source`` by the next command.

    ``option`` is what names another place.
    """
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
