"""Fine-tuning: start from the convolutions of an earlier run, with images that it was not trained on held out."""

import hashlib
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from cifarnet import pretrained
from cifarnet.contract import IMAGE_SHAPE
from cifarnet.data import HoldOut
from cifarnet.data.decoding import decode
from cifarnet.dataset import Dataset, silent
from cifarnet.errors import ConfigError, RunError
from cifarnet.recipes import RECIPES, Recipe
from cifarnet.run.folder import Run, require_weights
from cifarnet.run.record import RunRecord, StartedFrom

from .seen import Digests, digests, seen_by


@dataclass(frozen=True, eq=False)
class WarmStart:
    """The run that another one starts from."""

    run: str
    """Name of its folder."""
    weights: Path
    """File of its weights, in Keras' format, or the model that comes with the package."""
    seen: Digests | None = None
    """Digests of all training images of that run and of the runs before it, or None if unknown."""
    division: tuple[str, str] | None = None
    """Fingerprints of its dataset and of its validation split."""
    image_shape: tuple[int, ...] = IMAGE_SHAPE
    """Height, width and channels of its images."""
    other_shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of the images of the runs before it that differ from ``image_shape``."""

    def recorded(self, content: bytes, image_shape: tuple[int, ...]) -> StartedFrom:
        """Return the entry in the record of the new run.

        ``content`` is that of the weights file, ``image_shape`` the shape of the images of the new run.
        """
        others = tuple(each for each in (self.image_shape, *self.other_shapes) if each != image_shape)
        return StartedFrom(
            run=self.run, weights_sha256=hashlib.sha256(content).hexdigest(), other_shapes=others or None
        )


def warm_start_from(run: Run) -> WarmStart:
    """Return a start from the best weights of ``run``. Raises ``RunError`` if it has none.

    The run that comes with the package (``pretrained``) has its exported model instead.
    """
    if run.path == pretrained.FOLDER:
        weights = run.model
    else:
        require_weights(run)
        weights = run.best_weights
    record = run.record
    name, shape = run.path.resolve().name, record.model.image_shape
    others = (record.warm_start and record.warm_start.other_shapes) or ()
    return WarmStart(name, weights, seen_by(run), _division(record), shape, others)


def recipe_of(run: Run) -> Recipe:
    """Return the recipe for fine-tuning ``run``: its network, its seed and its validation split."""
    found = run.record.settings
    # Its other settings may have been adapted to its images.
    train = RECIPES[found.name].sized(found.model.image_shape).train if found.name in RECIPES else found.train
    train = replace(train, seed=found.train.seed, validation_fraction=found.train.validation_fraction)
    return replace(found, train=train)


def warm_start_of(run: Run) -> WarmStart | None:
    """Return the start of ``run`` from its own copy of the weights, or None if it started from scratch.

    Its own images count as seen, too. Raises ``RunError`` if the weights are not those that the run began with.
    """
    record = run.record
    recorded = record.warm_start
    if recorded is None:
        return None
    path = run.start_weights
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(
            f"{path} could not be read ({error.strerror}); expected what the run began with: restore it or train again"
        ) from error
    if found != recorded.weights_sha256:
        raise RunError(
            f"{path} has the SHA-256 {found[:12]}…; expected {recorded.weights_sha256[:12]}… as when the run "
            "began: restore it or train again"
        )
    return WarmStart(recorded.run, path, seen_by(run), _division(record), record.model.image_shape)


def require_unseen(warm_start: WarmStart, dataset: Dataset, parts: HoldOut) -> None:
    """Raise ``ConfigError`` if validation or test images were trained on before, or if that cannot be known.

    ``parts`` is the validation split of ``dataset``. The same split of the same dataset as in the earlier run is
    accepted, even if the dataset has copies of an image. Image files are compared at the size of each earlier run;
    arrays are refused if one of these runs had another size.
    """
    sized = _in_shape(warm_start.image_shape, dataset, warm_start.run)
    data, held_out_before = warm_start.division or (None, None)
    is_same = data == sized.fingerprint
    seen = digests(sized.train.images) if is_same else warm_start.seen
    if seen is None or (is_same and held_out_before == parts.fingerprint):
        return
    others = (_in_shape(shape, dataset, warm_start.run) for shape in warm_start.other_shapes)
    is_seen = np.any([np.isin(_held_out(each, parts), seen) for each in chain([sized], others)], axis=0)
    if count := int(is_seen.sum()):
        raise ConfigError(
            f"{count} of the {len(is_seen)} validation and test images were trained on by "
            f"{warm_start.run} or a run before it; expected new ones (adding images to its folder changes its "
            "validation split): use a folder of new images, or the images of that run with its split_seed, seed "
            "and validation_fraction, or train from scratch"
        )


def _held_out(dataset: Dataset, parts: HoldOut) -> Digests:
    """Return the digests of the validation and the test images."""
    return np.concatenate([digests(dataset.train.images[parts.validation]), digests(dataset.test.images)])


def _in_shape(shape: tuple[int, ...], dataset: Dataset, run: str) -> Dataset:
    """Return ``dataset`` with its image files decoded at the size of an earlier run, to recognize its images."""
    if dataset.train.images.shape[1:] == shape:
        return dataset
    if dataset.source is None or not (dataset.train.files and dataset.test.files):
        raise ConfigError(
            f"{dataset.name} has images of shape {dataset.train.images.shape[1:]}; expected {shape} as {run} or a run "
            "before it, whose training images are not recognized in another size: use a folder of image files, or "
            "train from scratch"
        )
    folder, (height, width, channels) = Path(dataset.source), shape
    paths = [folder / file for part in (dataset.train, dataset.test) for file in part.files]
    images, first = decode(folder, paths, silent, (height, width, channels)).images, len(dataset.train)
    train, test = replace(dataset.train, images=images[:first]), replace(dataset.test, images=images[first:])
    return replace(dataset, train=train, test=test)


def _division(record: RunRecord) -> tuple[str, str]:
    return record.data.fingerprint, record.hold_out.fingerprint
