"""The same exported file in onnxruntime, without cifarnet."""

import onnxruntime

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import Answer, serve


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    serve(answer_of(task.settings["model"], task.cores), task, turns)


def answer_of(file: str, threads: int, output: str | None = "probabilities") -> Answer:
    """Return what runs ``file`` on so many threads; ``output`` None takes the only one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [output or session.get_outputs()[0].name]
    return lambda images: session.run(outputs, {name: images})[0]
