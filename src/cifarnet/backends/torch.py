"""The adapter for PyTorch: eager steps on channels-last memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .interface import Objective, StepResult, paths


def conv2d(images: torch.Tensor, kernel: torch.Tensor, padding: str) -> torch.Tensor:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1; padding ``same`` or ``valid``."""
    # A permuted (n, h, w, c) tensor is torch's channels_last format: nothing is copied on the way in or out.
    features = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=padding)
    return features.permute(0, 2, 3, 1)


def max_pool2d(images: torch.Tensor) -> torch.Tensor:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""
    return torch.nn.functional.max_pool2d(images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def devices() -> list[str]:
    """Return the names of the devices that PyTorch sees."""
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *apple, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


class TorchEngine:
    """A network and its optimizer, updated in place."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._trainable = network.trainable_variables
        self._device = self._trainable[0].value.device

    def train_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int32], weights: NDArray[np.float32], learning_rate: float
    ) -> StepResult:
        """Take one optimizer step; see ``Engine``."""
        self._optimizer.learning_rate.assign(learning_rate)
        for variable in self._trainable:
            variable.value.grad = None
        logits = self._network(self._tensor(images), training=True)
        loss, sums = self._objective(logits, self._tensor(labels), self._tensor(weights))
        loss.backward()
        with torch.no_grad():
            self._optimizer.apply([variable.value.grad for variable in self._trainable], self._trainable)
        return StepResult(sums.loss_sum.detach(), sums.correct.detach())

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, classes); see ``Engine``."""
        with torch.no_grad():
            return np.array(self._network(self._tensor(images), training=False).cpu())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable, by path."""
        named = paths(self._network, self._optimizer)
        return {path: np.array(variable.value.detach().cpu()) for path, variable in named}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable from what ``state`` returned."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(array, device=self._device)


compile = TorchEngine
