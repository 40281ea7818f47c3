"""What every adapter offers, so that one algorithm runs on three frameworks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = Any
"""A tensor of whichever framework is running."""


class StepResult(NamedTuple):
    """Sums over one batch, as scalars that may still be on their way from the device."""

    loss_sum: Tensor
    """Cross-entropy summed over the batch's images, nats, float32."""
    correct: Tensor
    """Number of images whose largest logit is the label's, float32."""


Objective = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, StepResult]]
"""(logits, labels, weights) to (loss to minimise, sums)."""


class Engine(Protocol):
    """A network and its optimizer, compiled and resident on the framework's device."""

    def train_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int32], weights: NDArray[np.float32], learning_rate: float
    ) -> StepResult:
        """Take one optimizer step on a batch (n, h, w, c), (n,), (n,); images of weight 0 do not count."""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes) of a batch (n, h, w, c), dropout off."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable of network and optimizer, by path; Keras' own then hold these values too."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable of network and optimizer from what ``state`` returned."""


class Adapter(Protocol):
    """The names that each of ``jax.py``, ``torch.py`` and ``tensorflow.py`` defines."""

    def conv2d(self, images: Tensor, kernel: Tensor, padding: str) -> Tensor:
        """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1; padding ``same`` or ``valid``."""

    def max_pool2d(self, images: Tensor) -> Tensor:
        """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""

    def compile(self, network: Any, optimizer: Any, objective: Objective) -> Engine:
        """Return the engine that trains the Keras model ``network`` (images to logits)."""

    def devices(self) -> list[str]:
        """Return the framework's names of the devices that it sees."""


def paths(network: Any, optimizer: Any) -> list[tuple[str, Any]]:
    """Return every Keras variable of network and optimizer with a name that is the same on all backends."""
    named = [(f"model/{variable.path}", variable) for variable in network.variables]
    return named + [(f"optimizer/{variable.path}", variable) for variable in optimizer.variables]
