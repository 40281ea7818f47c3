"""Training with Keras' own ``fit``."""

import keras

from cifarnet.arguments import number, takes, whole_number
from cifarnet.config import TrainConfig


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
