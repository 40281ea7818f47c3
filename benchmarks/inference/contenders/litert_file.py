"""The file that Keras' own `model.export(format="litert")` writes, in LiteRT, formerly TensorFlow Lite."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve

from .keras_predict import trained_network


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    network, file = trained_network(task), str(task.folder / "model.tflite")
    network(np.zeros((1, *task.settings["model_config"]["image_shape"]), np.uint8), training=False)
    network.export(file, format="litert", verbose=False)
    interpreter = Interpreter(file, num_threads=task.cores)
    entry, exit_ = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(entry, [task.settings["batch"], *task.settings["model_config"]["image_shape"]])
    interpreter.allocate_tensors()

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter.set_tensor(entry, images)
        interpreter.invoke()
        return interpreter.get_tensor(exit_)

    serve(answer, task, turns)
