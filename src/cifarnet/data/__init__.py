"""Datasets: CIFAR-10 (downloaded, verified and cached), synthetic images, and folders of images."""

from pathlib import Path
from typing import get_args

from cifarnet.arguments import PATH, described, expanded, function, takes
from cifarnet.config import MOST, plain_number
from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import (
    CIFAR10_FINGERPRINT,
    IMAGE_SIZE,
    LARGEST_IMAGE_SIZE,
    NAMED_SOURCES,
    Dataset,
    Progress,
    SplitBy,
    durable,
    silent,
)
from cifarnet.errors import ConfigError, DataError, IntegrityError, listed

from .augmentation import batch_order
from .cifar10 import CIFAR10
from .cifar10_cache import cache_folder, cache_state, open_cache, verify
from .download import fetch
from .official_files import holds_release, read_release
from .splits import HoldOut, evenly_chosen, hold_out, hold_out_of
from .synthetic import synthetic

_ACCEPTED = (
    "`cifar10`, `synthetic`, the official CIFAR-10 archive (.tar.gz) or its unpacked folder, or a folder with one "
    "subfolder of images per class"
)


@takes(cache=PATH, progress=function("a function of a phase, bytes done and total bytes"))
def load_dataset(
    source: str | Path = "cifar10",
    *,
    seed: int = 0,
    split_by: SplitBy = "content",
    image_size: int = IMAGE_SIZE,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    skip_broken: bool = False,
    use_validation_folder: bool = True,
) -> Dataset:
    """Open CIFAR-10 (downloaded if it is not in the cache), synthetic data, or the data at a path.

    A path is an official CIFAR-10 archive or folder, binary or Python, or a folder with one subfolder per class, or
    with ``train`` and ``test`` that each have such subfolders. The two names take precedence over paths; write
    ``./cifar10`` for a folder of that name. ``seed`` determines the synthetic images, and the test split of a folder
    without one: about a fifth of the images, each chosen by a hash of its file, so that adding or removing files does
    not move the others. ``split_by="position"`` splits as earlier versions did. A folder ``val`` beside ``train`` and
    ``test`` is the validation split, and is ignored if ``use_validation_folder`` is False. With ``skip_broken``, files
    of a folder that cannot be read are skipped and listed in ``Dataset.reading.broken``.

    The images of a folder are resized to ``image_size`` pixels in height and width, 32 to 256; those of other sources
    are 32x32. Decoded images are cached until their files change. ``cache`` is the folder of the CIFAR-10 cache, and
    ``progress`` is called while images are downloaded or decoded. Raises ``DataError`` (or ``FetchError``,
    ``IntegrityError``), and ``ConfigError`` for an invalid seed, rule or size.
    """
    seed = _whole_number("seed", seed, 0, MOST)
    image_size = _whole_number("image_size", image_size, IMAGE_SIZE, LARGEST_IMAGE_SIZE)
    if split_by not in get_args(SplitBy):
        raise ConfigError(f"split_by is {split_by!r}; expected one of {', '.join(get_args(SplitBy))}")
    if not PATH.holds(source):
        raise DataError(f"the source is {described(source)}; expected {_ACCEPTED}")
    if source in NAMED_SOURCES:
        _require_own_size(str(source), image_size)
    if source == "cifar10":
        return _open_cifar10(None if cache is None else Path(cache), progress)
    if source == "synthetic":
        return synthetic(seed=seed).opened_by(source, split_seed=seed)
    try:
        path = expanded(source)
        if holds_release(path, CIFAR10):
            _require_own_size(str(path), image_size)
            return read_release(path, CIFAR10).opened_by(durable(path))
        if not path.is_dir() or not any(entry.is_dir() for entry in path.iterdir()):
            raise DataError(f"{path} is {_description(path)}; expected {_ACCEPTED}")
        from .class_folders import read_class_folders  # imported here: it loads Pillow

        shape = (image_size, image_size, IMAGE_SHAPE[2])
        options = {"skip_broken": skip_broken, "use_validation_folder": use_validation_folder}
        return read_class_folders(path, seed, split_by, progress or silent, shape, **options)
    except OSError as error:
        from .class_folders import system_fault

        raise system_fault(source, error) from error


def _whole_number(name: str, value: int, least: int, most: int) -> int:
    found = plain_number(value)
    if type(found) is not int or not least <= found <= most:
        raise ConfigError(f"{name} is {value!r}; expected a whole number from {least} to {most:,}")
    return found


def _require_own_size(source: str, image_size: int) -> None:
    if image_size != IMAGE_SIZE:
        raise ConfigError(
            f"image_size is {image_size}; expected {IMAGE_SIZE} for {source}, whose images are "
            f"{IMAGE_SIZE}x{IMAGE_SIZE} and are not enlarged: leave it out, or name a folder of larger images"
        )


def _open_cifar10(cache: Path | None, progress: Progress | None) -> Dataset:
    if not cache_state(cache).present:
        fetch(cache, progress)
    dataset = open_cache(cache).opened_by("cifar10")
    # The dataset keeps the fingerprint, so that nothing hashes the images again.
    if dataset.fingerprint != CIFAR10_FINGERPRINT:
        raise IntegrityError(
            f"{cache_state(cache).path} has the fingerprint {dataset.fingerprint[:12]}; expected "
            f"{CIFAR10_FINGERPRINT[:12]}: run `cifarnet data fetch --force`"
        )
    return dataset


def _description(path: Path) -> str:
    if path.is_file():
        return "a file of another kind"
    if not path.is_dir():
        return "no such file or folder"
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "an empty folder"
    return f"a folder without subfolders ({listed(names)})"
