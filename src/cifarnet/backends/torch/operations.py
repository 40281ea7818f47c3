"""Operations of the network and the optimizer, in the channels-last memory format."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.adamw import adamw

from cifarnet.backends.microbatches import current_precision
from cifarnet.backends.protocol import AdamStep
from cifarnet.system import multiplies_bfloat16

CAN_MULTIPLY_BFLOAT16 = multiplies_bfloat16()
"""Whether the CPU has the instructions that make torch's bfloat16 convolution the faster one."""
MANY_STEPS = 1e9
"""A step count at which torch's own bias correction is a multiplication by one."""


def conv2d(images: torch.Tensor, kernel: torch.Tensor, padding: str, bias: torch.Tensor | None = None) -> torch.Tensor:
    # A permuted (n, h, w, c) tensor is in torch's channels_last format, so nothing is copied.
    images, kernel = images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1)
    if current_precision() == "float32":
        return torch.nn.functional.conv2d(images, kernel, bias, padding=padding).permute(0, 2, 3, 1)
    features = torch.nn.functional.conv2d(_rounded(images), _rounded(kernel), padding=padding)
    features = _rounded(features).float().permute(0, 2, 3, 1)
    return features if bias is None else features + bias


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Round ``tensor`` and its gradient to bfloat16. The dtype stays float32 if the CPU multiplies that faster."""
    rounded = tensor.bfloat16()
    return rounded if CAN_MULTIPLY_BFLOAT16 or tensor.device.type != "cpu" else rounded.float()


def max_pool2d(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.max_pool2d(images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def batch_norm(
    images: torch.Tensor, offset: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features, mean, inverse = torch.native_batch_norm(
        images.permute(0, 3, 1, 2),
        torch.ones_like(offset),
        offset,
        None,
        None,
        training=True,
        momentum=0.0,
        eps=epsilon,
    )
    return features.permute(0, 2, 3, 1), mean, 1 / torch.square(inverse) - epsilon


def apply_adam(step: AdamStep, rows: Sequence[tuple[Any, Any, Any, torch.Tensor]]) -> None:
    # No cost on a CPU. On other devices each conversion synchronizes with the device; its cost was not measured.
    rate, count = float(step.learning_rate), int(step.count)
    scale = rate * math.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    many = torch.tensor(MANY_STEPS, device=rows[0][-1].device)
    for decays in (True, False):
        chosen = [row for row in rows if (len(row[0].shape) > 1) == decays]
        adamw(
            [variable.value for variable, *_ in chosen],
            [gradient.contiguous() for *_, gradient in chosen],  # the fused kernel ignores strides
            [momentum.value for _, momentum, *_ in chosen],
            [velocity.value for *_, velocity, _ in chosen],
            [],
            [many] * len(chosen),
            fused=True,
            amsgrad=False,
            beta1=step.beta_1,
            beta2=step.beta_2,
            lr=scale,
            weight_decay=rate * step.weight_decay / scale if decays and scale else 0.0,
            eps=step.epsilon,
            maximize=False,
        )
