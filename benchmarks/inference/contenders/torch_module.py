"""A PyTorch module on channels-last memory in inference mode, eager or `torch.compile`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import Answer, network_of, serve
from benchmarks.networks.torch_stock import Network


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    serve(answer_of(task, compiled=task.options.get("compiled", False)), task, turns)


def answer_of(task: Task, *, compiled: bool) -> Answer:
    """Return the trained module as a function of images."""
    model, weights = network_of(task)
    network = Network(model)
    network.load(weights)
    network.eval()
    run: Any = lambda images: network(images).softmax(1)  # noqa: E731  # what is compiled
    if compiled:
        run = torch.compile(run, dynamic=False, options={"freezing": True})

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return run(torch.from_numpy(images)).numpy()

    return answer
