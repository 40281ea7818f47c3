"""Keras as its guides have it: `image_dataset_from_directory`, then `predict`."""

from pathlib import Path

import keras

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve_folder

from .keras_predict import trained_network

BATCH = 256


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    network, (height, width, _) = trained_network(task), task.settings["model_config"]["image_shape"]

    def classify(folder: Path) -> list[int]:
        files = keras.utils.image_dataset_from_directory(
            str(folder), labels=None, batch_size=BATCH, image_size=(height, width), shuffle=False, verbose=False
        )
        return [int(each) for each in network.predict(files, verbose=0).argmax(axis=1)]

    serve_folder(classify, task, turns)
