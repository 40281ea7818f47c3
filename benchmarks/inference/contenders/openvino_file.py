"""The same exported file in OpenVINO, with the batch size fixed, in float32."""

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    core = openvino.Core()
    model = core.read_model(task.settings["model"])
    model.reshape([task.settings["batch"], *task.settings["model_config"]["image_shape"]])
    wishes = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": task.cores,
        "INFERENCE_PRECISION_HINT": "f32",  # where the processor could, it would compute in bfloat16
    }
    compiled = core.compile_model(model, "CPU", wishes)
    request, output = compiled.create_infer_request(), compiled.output("probabilities")

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = request.infer([images], share_inputs=True, share_outputs=True)
        return np.asarray(found[output])

    serve(answer, task, turns, to_array=np.copy)
