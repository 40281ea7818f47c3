"""Keras as in its guides: stock layers, `compile`, `fit` with callbacks."""

from typing import Any

import keras

from benchmarks.harness.worker import Rounds, Task
from benchmarks.networks.keras_stock import stock_network
from benchmarks.training.workload import VALIDATION_BATCH, Workload

MANY_EPOCHS = 10_000


def run(task: Task, rounds: Rounds) -> None:
    """Train an epoch per round."""
    workload = Workload(task)
    # Unseeded: `keras.utils.set_random_seed` would load TensorFlow, whatever Keras runs on, where it is installed.
    network = stock_network(workload.model, softmax=False)
    network.compile(
        _optimizer(workload),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=task.options.get("steps_per_execution", 1),
    )
    rounds.ready()
    network.fit(
        workload.images,
        workload.labels,
        batch_size=workload.batch_size,
        epochs=MANY_EPOCHS,
        validation_data=(workload.validation_images, workload.validation_labels),
        validation_batch_size=VALIDATION_BATCH,
        callbacks=[
            keras.callbacks.EarlyStopping(
                min_delta=workload.config["min_delta"], patience=workload.config["patience"], restore_best_weights=True
            ),
            keras.callbacks.ModelCheckpoint(
                str(task.folder / "best.weights.h5"), save_best_only=True, save_weights_only=True
            ),
            EpochPerRound(rounds, len(workload.images)),  # the last, so that the others' work is in its round
        ],
        verbose=0,
    )


def _optimizer(workload: Workload) -> keras.optimizers.Optimizer:
    config = workload.config
    warmup = round(config["warmup_epochs"] * workload.steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        config["schedule_epochs"] * workload.steps - warmup,
        alpha=config["floor_fraction"],
        warmup_target=config["learning_rate"],
        warmup_steps=max(warmup, 1),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


class EpochPerRound(keras.callbacks.Callback):
    """A callback that lets an epoch begin with each round, before the images are shuffled."""

    def __init__(self, rounds: Rounds, images: int) -> None:
        super().__init__()
        self._rounds, self._images, self._training_seconds = rounds, images, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Wait for the round."""
        self._rounds.wait()

    def on_test_begin(self, logs: Any = None) -> None:
        """Note that training is over and validation begins."""
        self._training_seconds = self._rounds.elapsed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the epoch."""
        self._rounds.done(
            images=self._images,
            training_rate=self._images / self._training_seconds,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            validation_loss=float(logs["val_loss"]),
            validation_accuracy=float(logs["val_accuracy"]),
        )
