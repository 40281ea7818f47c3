"""The named training recipes, and their adaptation to a dataset."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .arguments import Kind, instance, require, takes, whole_number
from .config import ModelConfig, TrainConfig
from .contract import IMAGE_SHAPE
from .dataset import DATASET, Dataset
from .errors import ConfigError, reason

SETTINGS = frozenset(field.name for kind in (ModelConfig, TrainConfig) for field in dataclasses.fields(kind))
"""Names of the settings of a recipe."""
LEAST_BATCH = 64
"""Minimum adapted batch size, because batch normalization needs several images of each class."""
LEAST_STEPS_PER_EPOCH = 16
"""Minimum number of steps per epoch; the batch size is halved until it is reached."""
LEAST_SEEN = 200_000
"""Minimum number of training images over all epochs; the recipe ``fast`` uses 450,000 on CIFAR-10."""
MOST_EPOCHS = 100
"""Maximum number of epochs. This and the three values above were chosen, not tuned."""
NAMES = Kind(
    lambda value: isinstance(value, Collection) and not isinstance(value, str), "the names of settings: pass a list"
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model configuration and a training configuration. Raises ``ConfigError`` if the two do not fit together."""

    name: str
    """Name of the recipe; its settings may have been changed."""
    model: ModelConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        for name, kind in (("model", ModelConfig), ("train", TrainConfig)):
            require(name, getattr(self, name), instance(kind, f"a {kind.__name__}"))
        if self.train.optimizer == "muon" and not self.model.ghost_batch:
            raise ConfigError(
                "optimizer is 'muon', ghost_batch 0; expected batch normalization, because muon normalizes convolution "
                "kernels: use another optimizer or a recipe with batch normalization"
            )

    @takes(settings=instance(Mapping, 'settings by name: pass a dict such as {"epochs": 20}'))
    def changed(self, settings: Mapping[str, Any]) -> Self:
        """Return a copy with other values for the named fields of either configuration.

        Raises ``ConfigError`` for an unknown name and for a value outside its range.
        """
        if unknown := set(settings) - SETTINGS:
            raise ConfigError(
                f"there is no setting named {', '.join(sorted(map(str, unknown)))}; expected one of {sorted(SETTINGS)}"
            )
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        of_model = {field.name for field in dataclasses.fields(ModelConfig)} & set(settings)
        model = dataclasses.replace(self.model, **{name: settings[name] for name in of_model})
        train = dataclasses.replace(self.train, **{name: settings[name] for name in set(settings) - of_model})
        return dataclasses.replace(self, model=model, train=train)

    @takes(dataset=DATASET, given=NAMES)
    def for_dataset(self, dataset: Dataset, given: Collection[str] = ()) -> Self:
        """Return the recipe for the classes, the image shape and the number of images of ``dataset``.

        The settings named in ``given`` are kept. Raises ``DataError`` for a class with a single image, and
        ``ConfigError`` if ``classes`` or ``image_shape`` is in ``given`` and does not match the images.
        """
        from .data import hold_out_of  # imported here: it loads numpy, which --help does not need

        shape = dataset.train.images.shape[1:]
        resize = ", or resize the images of a folder (--image-size, in Python image_size=)"
        for name, found, other in (("classes", len(dataset.labels), ""), ("image_shape", shape, resize)):
            if name in given and (wanted := getattr(self.model, name)) != found:
                raise ConfigError(f"{name} is {wanted}; expected {found}, as {dataset.name} has: leave it out{other}")
        images = len(hold_out_of(dataset, self.train).train)
        sized = self.sized(shape, given)
        model = dataclasses.replace(sized.model, classes=len(dataset.labels))
        return dataclasses.replace(sized, model=model).adapted_to(images, given)

    @takes(given=NAMES)
    def sized(self, shape: tuple[int, ...], given: Collection[str] = ()) -> Self:
        """Return the recipe for images of ``shape``, (height, width, channels), adapted if they are larger.

        Each doubling of the shorter side repeats the last block, so that the last feature map stays about as large, and
        halves the batch size, down to ``LEAST_BATCH``, so that the memory of activations grows more slowly than pixels.
        Translation and cutout scale with the side. For smaller images only the shape changes. The settings named in
        ``given`` are kept.
        """
        train, model = self.train, dataclasses.replace(self.model, image_shape=shape)
        before, now = (min(each.image_shape[:2]) for each in (self.model, model))
        doublings, scale = max(_doublings(now) - _doublings(before), 0), max(now / before, 1)
        changes = {
            "batch_size": max(train.batch_size >> doublings, min(train.batch_size, LEAST_BATCH)),
            "translation": round(train.translation * scale),
            "cutout": round(train.cutout * scale),
        }
        model = dataclasses.replace(model, filters=model.filters + model.filters[-1:] * doublings)
        kept = {name: value for name, value in changes.items() if name not in given}
        return dataclasses.replace(self, model=model).changed(kept)

    @takes(images=whole_number(1, "a number of images, 1 or more"), given=NAMES)
    def adapted_to(self, images: int, given: Collection[str] = ()) -> Self:
        """Return the recipe with smaller batches and more epochs if there are few training ``images``.

        Otherwise a schedule over all epochs would have too few steps. Patience is raised to the number of epochs, so
        that early stopping does not end training before the learning rate has decayed. The settings named in ``given``
        are kept. A recipe with a constant schedule, or one shorter than its epochs, relies on early stopping and is not
        changed.
        """
        train = self.train
        if train.schedule_epochs or train.schedule == "constant":
            return self
        batch_size = train.batch_size
        while batch_size >= 2 * LEAST_BATCH and images < LEAST_STEPS_PER_EPOCH * batch_size:
            batch_size //= 2
        changes = {
            "batch_size": batch_size,
            "epochs": max(train.epochs, min(math.ceil(LEAST_SEEN / images), MOST_EPOCHS)),
        }
        changes = {name: value for name, value in changes.items() if name not in given}
        if "patience" not in given:
            changes["patience"] = max(train.patience, changes.get("epochs", train.epochs))
        return self.changed(changes)


def _doublings(side: int) -> int:
    """Return how often a side of 32 pixels can be doubled without exceeding ``side``, 0 or more."""
    return max((side // IMAGE_SHAPE[0]).bit_length() - 1, 0)


_BATCH_NORMALIZED = ModelConfig(
    whitening=2,
    filters=(48, 128, 128),
    convolutions_per_block=2,
    pooling="first",
    ghost_batch=256,
    global_pooling="average",
    dense_units=(),
    dropout=0.0,
)
_FAST = TrainConfig(
    optimizer="muon",
    learning_rate=0.1,
    schedule="linear",
    schedule_epochs=0,
    epochs=10,
    floor_fraction=0.0,
    warmup_epochs=0.0,
    weight_decay=0.0,
    label_smoothing=0.2,
    flip="alternating",
    translation=2,
    precision="bfloat16",
    batch_size=512,
    validation_fraction=0.1,
)

RECIPES = {
    "seed": Recipe(name="seed", model=ModelConfig(), train=TrainConfig()),
    "fast": Recipe(name="fast", model=_BATCH_NORMALIZED, train=_FAST),
    "strong": Recipe(
        name="strong",
        model=dataclasses.replace(_BATCH_NORMALIZED, filters=(64, 256, 256), convolutions_per_block=3),
        train=dataclasses.replace(_FAST, epochs=27, patience=27, translation=4, cutout=12),
    ),
}
"""Recipe by name. The values of ``seed`` are the defaults of the configurations."""


def recipe(name: str) -> Recipe:
    """Return the recipe named ``name``. Raises ``ConfigError`` for an unknown name."""
    return _named(name)


def _named(name: str, otherwise: str = "") -> Recipe:
    if not isinstance(name, str) or name not in RECIPES:
        names = ", ".join(sorted(RECIPES))
        raise ConfigError(f"there is no recipe named {name!r:.60}; expected one of {names}{otherwise}")
    return RECIPES[name]


def is_recipe_file(name: str) -> bool:
    """Return whether ``name`` is that of a recipe file, existing or not, rather than of a recipe."""
    return name.lower().endswith(".json")


def recipe_and_settings(name: str) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe named ``name``, or that in the JSON file ``name`` and the settings that the file changes.

    The file is an object with ``recipe``, the name of a recipe, and ``settings``, values of fields of ``ModelConfig``
    and ``TrainConfig`` by name. Raises ``ConfigError`` for an unknown name and for a file that is not such an object.
    """
    if not is_recipe_file(name):
        return _named(name, ", or a recipe file whose name ends in .json"), {}
    try:
        document = json.loads(Path(name).read_bytes())
        base, settings = document.pop("recipe"), dict(document.pop("settings"))
        if not document:
            return recipe(base).changed(settings), settings
        why = f"it also has {', '.join(document)}"
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except KeyError as error:
        why = f"it has no {error}"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = reason(error)
    example = '{"recipe": "fast", "settings": {"learning_rate": 0.05}}'
    raise ConfigError(f"{name} cannot be used ({why}); expected a recipe such as {example}: correct it")
