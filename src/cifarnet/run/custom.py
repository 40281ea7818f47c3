"""The optimizer and the loss in a run record that replace those of the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifarnet.errors import RunError

from .typed_json import Sparse

OPTIMIZERS, SCHEDULES, LOSSES = "keras.optimizers", "keras.optimizers.schedules", "keras.losses"
"""Modules whose classes and functions are recorded by their full public name."""
MODULES = {"optimizer": OPTIMIZERS, "loss": LOSSES}
"""Module of Keras with the built-in ones."""
REPLACED = {
    "optimizer": ("learning_rate", "schedule", "schedule_epochs", "floor_fraction", "warmup_epochs", "weight_decay"),
    "loss": ("label_smoothing",),
}
"""Fields of ``TrainConfig`` that do not apply with an optimizer or a loss of Keras."""


UNUSED = ("ema_momentum",)
"""Settings that text omits: they belong to options of Keras' optimizers that training does not have."""


@dataclass(frozen=True, kw_only=True)
class ObjectRecord(Sparse):
    """An optimizer, a learning rate schedule or a loss: its name and its settings."""

    name: str
    """Public name in Keras, such as ``keras.optimizers.Lion``, or the name of a class or function of the user's."""
    config: dict[str, Any] | None = None
    """Result of ``get_config`` without the name; a schedule is an ``ObjectRecord`` as JSON. None for a function."""

    def __str__(self) -> str:
        return self.name if self.config is None else _call(self.name, self.config)

    def user_defined(self, module: str) -> str | None:
        """Return the name of the user's class or function in it, or None if all of it is from Keras' ``module``."""
        schedule = (self.config or {}).get("learning_rate")
        named = [(self.name, module)]
        if isinstance(schedule, dict):
            named.append((str(schedule.get("name")), SCHEDULES))
        return next((name for name, expected in named if not name.startswith(f"{expected}.")), None)


def _call(name: str, config: Mapping[str, Any]) -> str:
    unused = {key for key, value in config.items() if value is None} | {*UNUSED}
    unused |= set() if config.get("use_ema") else {"use_ema"}
    return f"{name}({', '.join(f'{key}={_argument(config[key])}' for key in config if key not in unused)})"


def _argument(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        return _call(str(value.get("name")), value["config"])
    return repr(value)


@dataclass(frozen=True, kw_only=True)
class CustomRecord(Sparse):
    """What replaces the optimizer and the loss of the recipe; None for what does not."""

    optimizer: ObjectRecord | None = None
    loss: ObjectRecord | None = None

    def names(self) -> dict[str, str]:
        """Return what replaces the optimizer and the loss as text, without what does not."""
        return {name: str(getattr(self, name)) for name in MODULES if getattr(self, name) is not None}

    @property
    def loss_title(self) -> str:
        """Title of a chart of the loss; the unit of another loss than the cross-entropy is unknown."""
        return "loss, nats" if self.loss is None else "loss"

    def require_keras(self, remedy: str) -> None:
        """Raise ``RunError``, which ends with ``remedy``, unless optimizer and loss are Keras' own."""
        for name, module in MODULES.items():
            found: ObjectRecord | None = getattr(self, name)
            if found is not None and (own := found.user_defined(module)):
                raise RunError(
                    f"the run was trained with the {name} {own}, whose code is not in run.json; expected one of "
                    f"{module}: {remedy.format(name=name)}"
                )


NO_CUSTOM_RECORD = CustomRecord()


def in_effect(train: Mapping[str, Any], custom: CustomRecord) -> dict[str, Any]:
    """Return the settings of a ``TrainConfig`` as JSON without those that ``custom`` replaces, and with ``custom``."""
    names = custom.names()
    unused = {field for name in names for field in REPLACED[name]}
    return {name: value for name, value in train.items() if name not in unused} | names
