"""What is to be trained, and how to open the images of a training again."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.dataset import NAMED_SOURCES, Dataset, SplitBy, durable
from cifarnet.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from cifarnet.data import Progress


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained."""

    recipe: str
    """Name of the recipe that the settings started from."""
    model: ModelConfig
    train: TrainConfig
    source: str | None = None
    """Source of a data set that does not tell its own, or None for that of the data set."""

    def __post_init__(self) -> None:
        if self.train.optimizer == "muon" and not self.model.ghost_batch:
            raise ConfigError(
                "optimizer is 'muon', ghost_batch 0; expected a network with batch normalisation, since muon sets the "
                "scale of convolutions aside: take another optimizer or a recipe that has it"
            )

    def source_of(self, dataset: Dataset) -> str | None:
        """Return where ``dataset`` is from, or None if nobody tells. Raises ``ConfigError`` if the job differs."""
        if self.source is None or dataset.source is None:
            return dataset.source or self.source
        if durable(self.source) != dataset.source:
            raise ConfigError(
                f"the job's source is {self.source}, the data set was opened from {dataset.source}; expected one "
                "place: leave the job's source out"
            )
        return dataset.source


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The images that a classifier was trained on."""

    source: str | None
    """What ``load_dataset`` takes, or None where that is not known here."""
    name: str
    fingerprint: str
    split_by: SplitBy
    """Rule that draws the test part of a folder without one."""
    split_seed: int
    """Seed that draws it, or the synthetic images."""

    def load_dataset(self, place: str | None = None, progress: "Progress | None" = None) -> Dataset:
        """Open the images, now in ``place`` if given, and divide them as they were divided for the training.

        Raises ``DataError`` where their place is not known, or nothing lies there.
        """
        from cifarnet.data import load_dataset  # numpy, which the command line's help has no time for

        source = place or self.source
        if source is None or not (place or source in NAMED_SOURCES or os.path.lexists(source)):
            fault = "is not known here" if source is None else "was not found"
            raise DataError(
                f"the model was trained on {source or self.name}, which {fault}; expected --data with its place"
            )
        return load_dataset(source, seed=self.split_seed, split_by=self.split_by, progress=progress)


def require_outside(place: Path, source: str | None, option: str) -> None:
    """Raise ``RunError`` if files in ``place`` would be taken for images of ``source`` by the next command."""
    if source is None or source in NAMED_SOURCES:
        return
    images = Path(source)
    links = [link for pattern in ("*", "train/*", "test/*") for link in images.glob(pattern) if link.is_symlink()]
    if any(place.resolve().is_relative_to(folder.resolve()) for folder in (images, *links)):
        raise RunError(
            f"the files would be written to {place}, inside the images in {source}; expected another folder: name one "
            f"with {option}"
        )
