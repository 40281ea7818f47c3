"""The file that Keras' own `model.export(format="onnx")` writes, in onnxruntime."""

import numpy as np

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve

from .keras_predict import trained_network
from .onnxruntime_file import answer_of


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    network, file = trained_network(task), str(task.folder / "model.onnx")
    network(np.zeros((1, *task.settings["model_config"]["image_shape"]), np.uint8), training=False)  # or it is refused
    network.export(file, format="onnx", verbose=False)
    serve(answer_of(file, task.cores, None), task, turns)
