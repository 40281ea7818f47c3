"""The network as a PyTorch module, on channels-last memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.networks import beyond_stock, kernel_shapes


class Network(nn.Module):
    """Pixels uint8 (n, h, w, c), 0-255, to logits (n, classes), from the fields of ``cifarnet.ModelConfig``."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        assert not beyond_stock(model)
        shapes = kernel_shapes(model)
        blocks, dense = [], []
        for size, _, before, after in shapes[: len(model["filters"])]:
            blocks += [nn.Conv2d(before, after, size, padding=model["padding"]), nn.ReLU(), nn.MaxPool2d(2)]
        for before, after in shapes[len(model["filters"]) : -1]:
            dense += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(model["dropout"])]
        self.features = nn.Sequential(*blocks)
        self.head = nn.Sequential(*dense, nn.Linear(*shapes[-1]))
        self.reset()
        self.to(memory_format=torch.channels_last)

    def reset(self) -> None:
        """Draw kernels by He's rule, truncated as Keras does it, and set biases to 0."""
        for layer in self.layers():
            fan_in = layer.weight[0].numel()
            deviation = (2 / fan_in) ** 0.5 / 0.87962566103423978
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)

    def layers(self) -> list[Any]:
        """Return the layers that have weights, in order."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes)."""
        # A permuted (n, h, w, c) tensor is channels-last memory: nothing is copied.
        pixels = images.permute(0, 3, 1, 2).float().mul(2 / 255).sub(1)
        return self.head(self.features(pixels).flatten(1))

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Put trained weights in, given in Keras' layouts and in the order of the layers."""
        arrays = iter(weights.values())
        channels, flattened = 0, True
        for layer in self.layers():
            kernel, bias = torch.from_numpy(next(arrays)), torch.from_numpy(next(arrays))
            if kernel.ndim == 4:
                kernel, channels = kernel.permute(3, 2, 0, 1), kernel.shape[-1]
            elif flattened:  # Keras flattens (h, w, c), torch (c, h, w)
                side = int((kernel.shape[0] // channels) ** 0.5)
                kernel = kernel.reshape(side, side, channels, -1).permute(3, 2, 0, 1).reshape(kernel.shape[1], -1)
                flattened = False
            else:
                kernel = kernel.T
            layer.weight.data.copy_(kernel)
            layer.bias.data.copy_(bias)
