"""Optimizers and losses of Keras, or of the user's own, in place of those of the recipe."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from cifarnet.backends import ALONE, Workers, default_settings
from cifarnet.dataset import Split
from cifarnet.errors import ConfigError, RunError, reason
from cifarnet.evaluation.scoring import Predictor, Score, evaluate, predict, score, softmax
from cifarnet.run.custom import LOSSES, OPTIMIZERS, CustomRecord

from .keras_objects import copy_of, loss_record, optimizer_record, rate_of, recreated, shortest

ROWS = 1024
"""Images per evaluation of a loss on the validation split."""


@dataclass(frozen=True, eq=False)
class Custom:
    """An optimizer and a loss with Keras' interface; None for those of the recipe."""

    optimizer: keras.optimizers.Optimizer | None = None
    loss: Any = None
    """A ``keras.losses.Loss`` or a function of labels and probabilities."""

    def record(self) -> CustomRecord:
        """Return what the run records. Raises ``ConfigError`` for other kinds of objects and for other settings."""
        return CustomRecord(
            optimizer=None if self.optimizer is None else optimizer_record(self.optimizer),
            loss=None if self.loss is None else loss_record(self.loss),
        )

    def losses(self, labels: Any, probabilities: Any) -> Any:
        """Return the loss of each image (n,), as Keras' ``compile`` would compute it.

        ``labels`` are integers (n,), which Keras converts to float32, and ``probabilities`` float32 (n, classes).
        """
        function = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        return function(ops.cast(labels, "float32"), ops.convert_to_tensor(probabilities))

    @default_settings()
    def evaluate(self, predictor: Predictor, split: Split, workers: Workers = ALONE) -> Score:
        """Return accuracy and mean loss of ``predictor`` on ``split``: of this loss, or else the cross-entropy."""
        if self.loss is None:
            return evaluate(predictor, split, workers)
        logits = predict(predictor, split.images, workers=workers)
        probabilities = softmax(logits).astype(np.float32)
        parts = [slice(first, first + ROWS) for first in range(0, len(logits), ROWS)]
        total = sum(float(ops.sum(self.losses(split.labels[part], probabilities[part]))) for part in parts)
        return replace(score(logits, split.labels), loss=total / len(logits))


NO_CUSTOM = Custom()
"""Neither of them replaced."""


def customized(optimizer: Any, loss: Any, classes: int) -> Custom:
    """Return ``optimizer`` and ``loss``, which may be None, after a trial of both.

    Raises ``ConfigError`` for other kinds of objects, and for options that would not do the same here as in Keras.
    """
    try:
        found = Custom(optimizer, keras.losses.get(loss) if isinstance(loss, str) else loss)
    except ValueError as error:
        raise ConfigError(f"loss is {loss!r}; expected the name of a loss in keras.losses") from error
    found.record()
    if optimizer is not None:
        _try_optimizer(optimizer)
    if loss is not None:
        _try_loss(found, classes)
    return found


@default_settings()
def resumed(record: CustomRecord, optimizer: Any, loss: Any, classes: int) -> Custom:
    """Return the optimizer and the loss of a run with ``record``, from Keras' classes or from what is passed again.

    Raises ``ConfigError`` unless what is passed is what the run began with, and ``RunError`` if something has to be
    passed, or if the record is damaged.
    """
    passed = customized(optimizer, loss, classes).record()
    for name in ("optimizer", "loss"):
        began, now = getattr(record, name), getattr(passed, name)
        if now not in (None, began):
            raise ConfigError(
                f"{name} is {now}; expected {began or 'that of the recipe'} as when the run began: leave it out, or "
                "start a new run"
            )
    missing = CustomRecord(
        optimizer=None if passed.optimizer else record.optimizer, loss=None if passed.loss else record.loss
    )
    missing.require_keras("pass it again, from Python: cifarnet.resume(run, dataset, {name}=...)")
    try:
        return customized(
            optimizer if missing.optimizer is None else recreated(missing.optimizer, OPTIMIZERS),
            loss if missing.loss is None else recreated(missing.loss, LOSSES),
            classes,
        )
    except ConfigError as error:
        raise RunError(
            f"run.json is damaged ({error}); expected the optimizer and the loss that the run began with: restore it "
            "or start a new run"
        ) from error


@default_settings()
def build_custom(optimizer: keras.optimizers.Optimizer, network: Any) -> keras.optimizers.Optimizer:
    """Return a copy of ``optimizer`` with new variables for ``network``. Raises ``ConfigError`` as ``customized``."""
    built = copy_of(optimizer)
    built.build(network.trainable_variables)
    return built


@default_settings()
def rate_after(optimizer: keras.optimizers.Optimizer, steps: int) -> float:
    """Return the learning rate of a schedule after ``steps`` steps, or the current one if there is no schedule."""
    rate = rate_of(optimizer)
    return shortest(ops.convert_to_numpy(rate(steps) if callable(rate) else rate))


@default_settings()
def _try_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raise ``ConfigError`` for options that the engines do not follow, and unless a copy can take a step."""
    if optimizer.use_ema or optimizer.loss_scale_factor is not None:
        option = "use_ema" if optimizer.use_ema else "loss_scale_factor"
        raise ConfigError(f"optimizer has {option}={getattr(optimizer, option)}; expected none: only fit follows it")
    if isinstance(optimizer, keras.optimizers.ScheduleFreeAdamW):
        raise ConfigError("optimizer is ScheduleFreeAdamW; expected another: Keras computes it differently per backend")
    copy = copy_of(optimizer)
    ones = [np.ones(shape, np.float32) for shape in ((2, 2), (2,))]
    variables = [keras.Variable(each) for each in ones]
    try:
        copy.build(variables)
        copy.apply([ops.convert_to_tensor(each) for each in ones], variables)
        is_finite = all(np.isfinite(ops.convert_to_numpy(variable)).all() for variable in variables)
    except Exception as error:
        raise ConfigError(
            f"optimizer could not take a step ({reason(error):.200}); expected one with update_step"
        ) from error
    if not is_finite:
        raise ConfigError("optimizer makes infinite weights in its first step; expected finite ones")
    if _excludes(optimizer) != _excludes(copy):
        raise ConfigError(
            "optimizer excludes variables from weight decay, which get_config omits; expected none: call "
            "exclude_from_weight_decay in the build of a class of your own"
        )


def _excludes(optimizer: Any) -> tuple[bool, Any]:
    names = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
    variables, pattern = (getattr(optimizer, name, None) for name in names)
    return bool(variables), pattern


@default_settings()
def _try_loss(custom: Custom, classes: int) -> None:
    """Raise ``ConfigError`` unless the loss has one value per image, which depends on that image's prediction alone."""
    count = classes + 1  # another number than that of the classes, with which it could be confused
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % classes
    probabilities = rng.dirichlet(np.ones(classes), count).astype(np.float32)
    moved = (probabilities + np.float32(1 / classes)) / 2
    try:
        whole, other = (
            np.asarray(ops.convert_to_numpy(custom.losses(labels, each))) for each in (probabilities, moved)
        )
        last = np.asarray(ops.convert_to_numpy(custom.losses(labels[-1:], probabilities[-1:])))
    except Exception as error:
        raise ConfigError(
            f"loss failed on labels of shape ({count},) and probabilities of shape ({count}, {classes}) "
            f"({type(error).__name__}: {reason(error):.200}); expected one for integer labels"
        ) from error
    if whole.shape != (count,) or last.shape != (1,):
        raise ConfigError(f"loss returned the shape {whole.shape} for {count} images; expected one value per image")
    if not all(np.isfinite(each).all() for each in (whole, other, last)):
        raise ConfigError("loss is infinite or NaN for probabilities above 0; expected finite values: add an epsilon")
    if not np.allclose(whole[-1:], last, rtol=1e-4, atol=1e-6):
        raise ConfigError("loss of an image changes with the other images of its batch; expected it to be its own")
    if np.array_equal(whole, other):
        raise ConfigError("loss does not change with the probabilities; expected one to minimize")
