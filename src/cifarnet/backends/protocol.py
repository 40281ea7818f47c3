"""What every adapter offers, so that one algorithm runs on three frameworks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import Precision

from .microbatches import Part

Tensor = Any
"""A tensor of whichever framework is running."""


class Sums(NamedTuple):
    """Sums over the images of one batch, as scalars of the framework, of numpy or of Python."""

    loss: Tensor
    """Cross-entropy as it is minimised, nats, float32."""
    correct: Tensor
    """Number of images whose largest logit is the label's, float32."""


Objective = Callable[[Tensor, Tensor, Tensor], Sums]
"""(logits, labels, weights) to sums. Training minimises the loss over the sum of the weights."""
Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (n, h, w, c), 0-255, to logits (n, classes)."""


class Steps(NamedTuple):
    """The batches of several steps, all of one size."""

    images: NDArray[np.uint8]
    """(steps, n, h, w, c), 0-255."""
    labels: NDArray[np.int32]
    """(steps, n)."""
    weights: NDArray[np.float32]
    """(steps, n), 1, or 0 for an image that does not count."""
    learning_rates: NDArray[np.float32]
    """(steps,)."""


class AdamStep(NamedTuple):
    """One step of Adam (Kingma and Ba 2015, as reordered at the end of section 2) with decoupled weight decay.

    A variable is multiplied by ``1 - learning_rate * weight_decay``, unless it has one dimension only, as a bias has.
    Then ``scale * m / (sqrt(v) + epsilon)`` is taken from it, with ``m`` and ``v`` the moving averages of its gradient
    and of the gradient squared, and ``scale`` the learning rate times
    ``sqrt(1 - beta_2**count) / (1 - beta_1**count)``.
    """

    learning_rate: Tensor
    """A float32 scalar."""
    count: Tensor
    """An integer scalar, 1 at the first step."""
    weight_decay: float
    beta_1: float
    beta_2: float
    epsilon: float


class Engine(Protocol):
    """A network and its optimizer, compiled and resident on the framework's device."""

    def train(self, steps: Steps) -> list[Sums]:
        """Take one or more optimizer steps and return the sums of each; images of weight 0 do not count."""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes) of a batch (n, h, w, c), dropout off."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable of network and optimizer, by path; Keras' own then hold them too."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable of network and optimizer from what ``state`` returned."""


class Adapter(Protocol):
    """The names that each of ``jax.py``, ``torch.py`` and ``tensorflow.py`` defines.

    Importing one changes nothing for the rest of the process.
    """

    def prepare_process(self) -> None:
        """Set up for training what affects the whole process; called before the framework is used."""

    def conv2d(self, images: Tensor, kernel: Tensor, padding: str, bias: Tensor | None = None) -> Tensor:
        """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias`` (filters,).

        ``padding`` is ``same``, for an odd k, or ``valid``. Where ``current_precision`` is bfloat16, images, kernel and
        their convolution are rounded to it, and so is every gradient of these three; products are summed in float32.
        """

    def max_pool2d(self, images: Tensor) -> Tensor:
        """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""

    def batch_norm(self, images: Tensor, offset: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise (n, h, w, c) over all but the last axis and add ``offset`` (c,).

        Returns it with the mean and the variance (c,) of ``images``; ``epsilon`` is added to the variance.
        """

    def apply_adam(
        self,
        step: AdamStep,
        variables: Sequence[Any],
        momentums: Sequence[Any],
        velocities: Sequence[Any],
        gradients: Sequence[Tensor],
    ) -> None:
        """Take one step of Adam: change the Keras variables and their moving averages, all in one order and shape."""

    def compile(
        self,
        network: Any,
        optimizer: Any,
        objective: Objective,
        ghost_batch: int = 0,
        precision: Precision = "float32",
    ) -> Engine:
        """Return the engine that trains the Keras model ``network`` (images to logits).

        It divides a batch into parts of at most ``ghost_batch`` images; 0 leaves it to the adapter. In steps, not in
        logits, convolutions multiply in ``precision``.
        """

    def predictor(self, network: Any) -> Forward:
        """Return ``network`` as a function, with the weights that it has at each call, dropout off."""

    def parts(self, size: int, ghost_batch: int = 0) -> list[Part]:
        """Return how a batch of ``size`` images is divided here: another division rounds in another way.

        None of the parts has more than ``ghost_batch`` images, unless that is 0.
        """

    def devices(self) -> list[str]:
        """Return the framework's names of the devices that it sees."""


def paths(network: Any, optimizer: Any) -> list[tuple[str, Any]]:
    """Return every Keras variable of network and optimizer with a name that is the same on all backends."""
    named = [(f"model/{variable.path}", variable) for variable in network.variables]
    return named + [(f"optimizer/{variable.path}", variable) for variable in optimizer.variables]
