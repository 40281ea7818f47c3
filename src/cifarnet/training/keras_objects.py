"""Keras' early stopping, and its optimizers, schedules and losses as records and back, without code from a file."""

import inspect
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from cifarnet.arguments import described, number, takes, whole_number
from cifarnet.config import TrainConfig, plain_number
from cifarnet.errors import ConfigError, counted, reason
from cifarnet.run.custom import LOSSES, OPTIMIZERS, SCHEDULES, ObjectRecord
from cifarnet.run.typed_json import read

BASE_CLASSES: dict[str, tuple[Any, Any]] = {
    OPTIMIZERS: (keras.optimizers, keras.optimizers.Optimizer),
    SCHEDULES: (keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule),
    LOSSES: (keras.losses, keras.losses.Loss),
}
"""Each module of Keras from whose classes a run is resumed, and their base class."""
MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
"""Reductions of a Keras loss that are the mean over the images."""
PROBED_STEPS = (0, *(10**power for power in range(6)))
"""Steps after which the rate of a schedule of Keras is checked. A user's own may not have a value for all of them."""
INTERFACE = ["y_true", "y_pred"]
"""First parameters of every loss function of Keras; its other functions have none of them."""


@takes(min_delta=number(0, "a number, 0 or more"), patience=whole_number(1, "a number of epochs, 1 or more"))
def early_stopping(
    *, min_delta: float = TrainConfig.min_delta, patience: int = TrainConfig.patience
) -> keras.callbacks.EarlyStopping:
    """Return the early stopping of the recipe ``seed`` as a Keras callback.

    It ends ``fit`` after ``patience`` epochs in which the validation loss did not fall by more than ``min_delta``, and
    then restores the weights of the best epoch.
    """
    return keras.callbacks.EarlyStopping(
        monitor="val_loss", mode="min", min_delta=min_delta, patience=patience, restore_best_weights=True
    )


def copy_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Return a copy with the same settings and without variables of a model. Raises ``ConfigError`` if that fails."""
    # Its name is part of those of its variables, which must be the same in every process.
    rate = rate_of(optimizer)
    schedule = {"learning_rate": rate} if isinstance(rate, BASE_CLASSES[SCHEDULES][1]) else {}
    try:
        return type(optimizer).from_config(optimizer.get_config() | {"name": "optimizer"} | schedule)
    except Exception as error:
        raise ConfigError(
            f"optimizer {type(optimizer).__name__} could not be recreated from its get_config ({reason(error):.200}); "
            "expected a class whose __init__ takes all of that"
        ) from error


def rate_of(optimizer: Any) -> Any:
    """Return the learning rate schedule of ``optimizer``, or the variable of its learning rate."""
    # The public attribute is the current value of a schedule, not the schedule.
    return getattr(optimizer, "_learning_rate", None)


def optimizer_record(optimizer: Any) -> ObjectRecord:
    """Return what a run records of an optimizer. Raises ``ConfigError`` for anything else."""
    if not isinstance(optimizer, BASE_CLASSES[OPTIMIZERS][1]):
        raise ConfigError(
            f"optimizer is {described(optimizer)}; expected an instance such as keras.optimizers.Lion(3e-4): the "
            "name of an optimizer is a setting of TrainConfig"
        )
    rate = rate_of(optimizer)
    if isinstance(rate, BASE_CLASSES[SCHEDULES][1]):
        schedule = _record(rate, SCHEDULES)
        _require_rates(rate, PROBED_STEPS if schedule.name.startswith(f"{SCHEDULES}.") else PROBED_STEPS[:1])
        return _record(optimizer, OPTIMIZERS, {"learning_rate": schedule.to_json()})
    if not isinstance(rate, keras.Variable) and callable(rate):
        raise ConfigError("optimizer has a learning rate that is a function; expected a number or a keras schedule")
    if isinstance(rate, keras.Variable):
        _require_rates(lambda _: rate, PROBED_STEPS[:1])
    return _record(optimizer, OPTIMIZERS, {"learning_rate": shortest(rate)} if isinstance(rate, keras.Variable) else {})


def _require_rates(rate: Callable[[int], Any], steps: Iterable[int]) -> None:
    """Raise ``ConfigError`` if the learning rate after some of the ``steps`` is negative or NaN, or infinite at 0."""
    for step in steps:
        value = shortest(rate(step))
        if not value >= 0 or (step == 0 and value == math.inf):
            after = f" after {counted(step, 'step')}" if step else ""
            raise ConfigError(f"optimizer has the learning rate {value}{after}; expected a finite number, 0 or more")


def shortest(value: Any) -> float:
    """Return a float32 scalar as the shortest number that rounds to it: 0.0003 instead of 0.0003000000142492354."""
    return float(str(np.float32(keras.ops.convert_to_numpy(value))))


def loss_record(loss: Any) -> ObjectRecord:
    """Return what a run records of a loss. Raises ``ConfigError`` for anything else."""
    if inspect.isfunction(loss):
        return ObjectRecord(name=_name(loss, LOSSES))
    if not isinstance(loss, BASE_CLASSES[LOSSES][1]):
        raise ConfigError(
            f"loss is {described(loss)}; expected a keras.losses.Loss, the name of a loss, or a function of "
            "y_true and y_pred"
        )
    record = _record(loss, LOSSES)
    config = record.config or {}
    if loss.reduction not in MEANS:
        raise ConfigError(f"loss has reduction {loss.reduction!r}; expected 'sum_over_batch_size', the mean")
    if config.get("from_logits"):
        raise ConfigError("loss has from_logits=True; expected False, because the model ends in a softmax")
    if config.get("ignore_class") is not None:
        raise ConfigError(
            f"loss has ignore_class={config['ignore_class']}; expected None: Keras divides by the number of the other "
            "images of a batch then"
        )
    return record


def _record(each: Any, home: str, shown: dict[str, Any] | None = None) -> ObjectRecord:
    """Return name and settings of an instance, with ``shown`` in place of some of its settings."""
    name, shown = _name(each, home), shown or {}
    try:
        config = {key: value for key, value in each.get_config().items() if key != "name"} | shown
        config = json.loads(json.dumps(config, default=plain_number, allow_nan=False))
    except Exception as error:
        raise ConfigError(
            f"{name}.get_config() failed ({reason(error):.200}); expected numbers, strings and lists"
        ) from error
    for key, value in config.items():
        if not (key in shown or _is_plain(value)):
            raise ConfigError(f"{name} has {key}={value!r:.80}; expected a number, a string or a list of them")
    if not name.startswith(f"{home}."):
        _require_complete(each, name, config)
    return ObjectRecord(name=name, config=config)


def _name(each: Any, home: str) -> str:
    kind = each if inspect.isfunction(each) else type(each)
    # On torch, Keras creates subclasses of its own classes, with the same names.
    is_keras = kind.__module__.startswith("keras.") and hasattr(BASE_CLASSES[home][0], kind.__name__)
    return f"{home}.{kind.__name__}" if is_keras else str(kind.__qualname__)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _require_complete(each: Any, name: str, config: dict[str, Any]) -> None:
    """Raise ``ConfigError`` if ``__init__`` of the user's class takes settings that ``get_config`` omits."""
    parameters = list(inspect.signature(type(each).__init__).parameters.values())[1:]
    named = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if missing := [each for each in named if each not in config and each not in ("name", "dtype")]:
        raise ConfigError(f"{name}.get_config() lacks {', '.join(missing)}; expected every argument of its __init__")


def recreated(found: ObjectRecord, home: str) -> Any:
    """Return the object of Keras with the name and the settings in ``found``. Raises ``ConfigError``."""
    module, base = BASE_CLASSES[home]
    kind = getattr(module, found.name.removeprefix(f"{home}."), None)
    if found.config is None:
        if home == LOSSES and inspect.isfunction(kind) and list(inspect.signature(kind).parameters)[:2] == INTERFACE:
            return kind
        raise ConfigError(f"{found.name!r:.80} is no loss function of Keras")
    if not (inspect.isclass(kind) and issubclass(kind, base)):
        raise ConfigError(f"{found.name!r:.80} is no class of {home}")
    config = dict(found.config)
    try:
        if home == OPTIMIZERS and isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = recreated(read(ObjectRecord, config["learning_rate"], "learning_rate"), SCHEDULES)
        made = kind(**config)
        recorders = {OPTIMIZERS: optimizer_record, LOSSES: loss_record}
        again = recorders[home](made) if home in recorders else _record(made, home)
    except Exception as error:
        raise ConfigError(
            f"{found.name} cannot have the settings {found.config!r:.200} ({reason(error):.200})"
        ) from error
    if again != found:
        raise ConfigError(f"{found!s:.200} would be {again!s:.200}")
    return made
