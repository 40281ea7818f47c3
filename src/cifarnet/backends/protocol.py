"""The interface of the framework adapters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cifarnet.config import Precision

from .microbatches import MicroBatch
from .workers import ALONE, Workers

Tensor = Any
"""A tensor of the current framework."""


class Sums(NamedTuple):
    """Sums over the images of one batch, as framework, numpy or Python scalars."""

    loss: Tensor
    """Training loss (cross-entropy with label smoothing), nats, float32."""
    correct: Tensor
    """Number of correct predictions, float32."""


Objective = Callable[[Tensor, Tensor, Tensor], Sums]
"""Maps (logits, labels, weights) to sums. Training minimizes the loss divided by the sum of the weights."""
Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps images uint8 (n, h, w, c), 0-255, to logits float32 (n, classes)."""


class Steps(NamedTuple):
    """The batches of several optimizer steps, all of the same size."""

    images: NDArray[np.uint8]
    """(steps, n, h, w, c), 0-255."""
    labels: NDArray[np.int32]
    """(steps, n)."""
    weights: NDArray[np.float32]
    """(steps, n): 1, or 0 for padding."""
    learning_rates: NDArray[np.float32]
    """(steps,)."""


class AdamStep(NamedTuple):
    """One step of Adam (Kingma and Ba 2015, as reordered at the end of section 2) with decoupled weight decay.

    A variable is multiplied by ``1 - learning_rate * weight_decay``, unless it is one-dimensional like a bias. Then
    ``scale * m / (sqrt(v) + epsilon)`` is subtracted, with ``m`` and ``v`` the moving averages of the gradient and of
    its square, and ``scale`` the learning rate times ``sqrt(1 - beta_2**count) / (1 - beta_1**count)``.
    """

    learning_rate: Tensor
    """float32 scalar."""
    count: Tensor
    """Integer scalar, 1 at the first step."""
    weight_decay: float
    beta_1: float
    beta_2: float
    epsilon: float


class Plan(NamedTuple):
    """How an engine takes a training step."""

    ghost_batch: int = 0
    """Maximum number of images in a micro-batch; 0 lets the adapter choose."""
    precision: Precision = "float32"
    """Precision in which convolutions multiply in training steps; in ``logits`` it is float32."""
    parts: int | None = None
    """Number of micro-batches of a batch; see ``Adapter.micro_batches``."""
    workers: Workers = ALONE
    """An engine computes the micro-batches that they assign to it; images of the others are not used."""
    own_rate: bool = False
    """Whether the optimizer determines its learning rate, so that those of ``Steps`` are not used."""


DEFAULT_PLAN = Plan()


class Engine(ABC):
    """The Keras model ``network``, which maps images to logits, and its optimizer, compiled, on the framework's device.

    Gradients are added in the order of the micro-batches.
    """

    def __init__(self, network: Any, optimizer: Any, objective: Objective, plan: Plan) -> None:
        self._network, self._optimizer, self._objective, self._plan = network, optimizer, objective, plan

    @abstractmethod
    def train(self, steps: Steps) -> list[Sums]:
        """Take one or more optimizer steps and return the sums of each. Images of weight 0 do not count."""

    logits: Forward
    """Returns the logits (n, classes) of a batch (n, h, w, c), in inference mode."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of all variables of network and optimizer, by path, and update the Keras variables."""
        return {path: self._array(variable) for path, variable in self._paths()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set all variables of network and optimizer from the result of ``state``."""
        for path, variable in self._paths():
            variable.assign(state[path])

    def _array(self, variable: Any) -> NDArray[Any]:
        return np.array(variable.value)

    def _paths(self) -> Iterator[tuple[str, Any]]:
        """Yield all variables, with names that are the same on all backends."""
        for variable in self._network.variables:
            yield f"model/{variable.path}", variable
        found = [variable.path for variable in self._optimizer.variables]
        for index, (path, variable) in enumerate(zip(found, self._optimizer.variables, strict=True)):
            # Keras' Nadam has a variable named by a counter of the process, and its Adafactor has equal names.
            is_unique = path.startswith(f"{self._optimizer.name}/") and found.count(path) == 1
            yield f"optimizer/{path if is_unique else index}", variable


class Adapter(Protocol):
    """The functions that each of the modules ``jax``, ``torch`` and ``tensorflow`` defines.

    Importing one of them has no effect on the rest of the process.
    """

    THREAD_VARIABLES: tuple[str, ...]
    """Environment variables with which a user sets numbers of threads; the first sets that of one operation."""

    def prepare_process(self) -> None:
        """Configure process-wide settings for training. Called before the framework is used."""

    def framework_defaults(self) -> AbstractContextManager[None]:
        """Return a context with the framework's default settings of what affects results, whatever is set around it."""

    def conv2d(self, images: Tensor, kernel: Tensor, padding: str, bias: Tensor | None = None) -> Tensor:
        """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias`` (filters,).

        ``padding`` is ``same`` (odd k only) or ``valid``. If ``current_precision`` is bfloat16, the images, the kernel,
        their convolution and the gradients of all three are rounded to it; products are summed in float32.
        """

    def max_pool2d(self, images: Tensor) -> Tensor:
        """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is dropped."""

    def batch_norm(self, images: Tensor, offset: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """Normalize (n, h, w, c) over all but the last axis and add ``offset`` (c,).

        Returns the normalized images, and the mean and the biased variance (c,) of ``images``. ``epsilon`` is added to
        the variance before dividing.
        """

    def apply_adam(self, step: AdamStep, rows: Sequence[tuple[Any, Any, Any, Tensor]]) -> None:
        """Take one step of Adam, given each Keras variable with its two moving averages and its gradient."""

    def compile(self, network: Any, optimizer: Any, objective: Objective, plan: Plan = DEFAULT_PLAN) -> Engine:
        """Return the engine that trains ``network``."""

    def predictor(self, network: Any) -> Forward:
        """Return ``network`` in inference mode as a function that uses the current weights at each call."""

    def micro_batches(self, size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
        """Divide a batch of ``size`` images into ``parts`` micro-batches.

        By default they have at most ``ghost_batch`` images or, if that is 0, the adapter chooses. The division affects
        rounding.
        """

    def join(self, timeout_s: float) -> Workers:
        """Join the other workers that a launcher started, and wait at most ``timeout_s`` for them, now and later.

        Raises ``WorkerError``. The adapter for TensorFlow lacks it.
        """

    def devices(self) -> list[str]:
        """Return the framework's names of the available devices."""

    def threads(self) -> int | None:
        """Return the number of threads of one operation on the CPU, which affects rounding, or None if unknown."""
