"""Keras as its guides have it: stock layers, `compile`, `fit` with callbacks."""

from typing import Any

import keras

from benchmarks.harness.turns import Task, Turns
from benchmarks.networks.keras_stock import stock_network
from benchmarks.training.course import VALIDATION_BATCH, Course

MANY_EPOCHS = 10_000


def contend(task: Task, turns: Turns) -> None:
    """Train until there is no further turn."""
    course = Course.of(task)
    # Unseeded: `keras.utils.set_random_seed` would load TensorFlow, whatever Keras runs on, where it is installed.
    network = stock_network(course.model, softmax=False)
    network.compile(
        _optimizer(course),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=task.options.get("steps_per_execution", 1),
    )
    turns.ready()
    network.fit(
        course.images,
        course.labels,
        batch_size=course.batch_size,
        epochs=MANY_EPOCHS,
        validation_data=(course.validation_images, course.validation_labels),
        validation_batch_size=VALIDATION_BATCH,
        callbacks=[
            keras.callbacks.EarlyStopping(
                min_delta=course.config["min_delta"], patience=course.config["patience"], restore_best_weights=True
            ),
            keras.callbacks.ModelCheckpoint(
                str(task.folder / "best.weights.h5"), save_best_only=True, save_weights_only=True
            ),
            TakingTurns(turns, len(course.images)),  # the last, so that the others' work is in its turn
        ],
        verbose=0,
    )


def _optimizer(course: Course) -> keras.optimizers.Optimizer:
    config = course.config
    warmup = round(config["warmup_epochs"] * course.steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        config["schedule_epochs"] * course.steps - warmup,
        alpha=config["floor_fraction"],
        warmup_target=config["learning_rate"],
        warmup_steps=max(warmup, 1),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


class TakingTurns(keras.callbacks.Callback):
    """A callback that gives every turn an epoch. The turn begins before the images are shuffled."""

    def __init__(self, turns: Turns, images: int) -> None:
        super().__init__()
        self._turns, self._images, self._training_seconds = turns, images, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Wait for the turn."""
        self._turns.wait()

    def on_test_begin(self, logs: Any = None) -> None:
        """Note that training is over and validation begins."""
        self._training_seconds = self._turns.elapsed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the epoch."""
        self._turns.done(
            images=self._images,
            training_rate=self._images / self._training_seconds,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            validation_loss=float(logs["val_loss"]),
            validation_accuracy=float(logs["val_accuracy"]),
        )
