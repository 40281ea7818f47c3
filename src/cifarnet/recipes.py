"""The named recipes, and how their schedule fits few images."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from .config import ModelConfig, TrainConfig
from .errors import ConfigError

LEAST_BATCH = 64
"""Images: smaller batches have too few of each class for the statistics of a normalisation."""
LEAST_STEPS_PER_EPOCH = 16
"""Where an epoch would have fewer, batches are halved."""
LEAST_SEEN = 200_000
"""Images, each counted as often as it is trained on; the recipe ``fast`` sees 450,000 on CIFAR-10."""
MOST_EPOCHS = 100
"""However few the images are. This and the three numbers above are a choice by hand, not by trials."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named pair of settings."""

    model: ModelConfig
    train: TrainConfig

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """Return the recipe with other values for the named fields of either configuration.

        Raises ``ConfigError`` for a name that neither has, and for a value outside its range.
        """
        names = {field.name for kind in (ModelConfig, TrainConfig) for field in dataclasses.fields(kind)}
        if unknown := set(settings) - names:
            raise ConfigError(f"no setting is called {', '.join(sorted(unknown))}; expected one of {sorted(names)}")
        of_model = {field.name for field in dataclasses.fields(ModelConfig)} & set(settings)
        model = dataclasses.replace(self.model, **{name: settings[name] for name in of_model})
        train = dataclasses.replace(self.train, **{name: settings[name] for name in set(settings) - of_model})
        return dataclasses.replace(self, model=model, train=train)

    def fitted(self, images: int, given: Collection[str] = ()) -> Self:
        """Return the recipe with smaller batches and more epochs where ``images`` to train on are few for its schedule.

        A schedule over as many epochs as there are takes too few steps then. Its patience is at least its epochs: early
        stopping is not to end it before the learning rate came down. A recipe that early stopping is meant to end, with
        a shorter schedule or none, is left alone, and so are the settings ``given``.
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


_NORMALISED = ModelConfig(
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
    "seed": Recipe(model=ModelConfig(), train=TrainConfig()),
    "fast": Recipe(model=_NORMALISED, train=_FAST),
    "strong": Recipe(
        model=dataclasses.replace(_NORMALISED, filters=(64, 256, 256), convolutions_per_block=3),
        train=dataclasses.replace(_FAST, epochs=27, patience=27, translation=4, cutout=12),
    ),
}
"""Recipe by name; ``seed`` is the published one, and its values are the defaults of the configurations."""


def recipe(name: str) -> Recipe:
    """Return the recipe called ``name``. Raises ``ConfigError`` for an unknown name."""
    if name not in RECIPES:
        raise ConfigError(f"no recipe is called {name!r}; expected one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
