"""The adapter for PyTorch: recorded steps on channels-last memory."""

import ctypes
import math
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.adamw import adamw

from cifarnet.config import Precision
from cifarnet.errors import BackendError
from cifarnet.system import multiplies_bfloat16

from .microbatches import Part, calling_on, current_precision, ghosts_of, keras_defaults, settled
from .protocol import AdamStep, Forward, Objective, Steps, Sums, paths

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's ``malloc.h``."""
KEPT_BYTES = 2**30
"""Larger blocks than any of a step."""
OLDER_MOST = 2**25
"""The most that ``M_MMAP_THRESHOLD`` may be in a glibc before 2.35, which refuses more."""
CAN_MULTIPLY_BFLOAT16 = multiplies_bfloat16()
"""Whether the processor has what makes torch's convolution of bfloat16 the faster one."""
MANY_STEPS = 1e9
"""Makes torch's own bias correction a multiplication by one."""


def prepare_process() -> None:
    """Let the C library keep what is freed: torch frees all of a step's tensors and asks for the same again.

    Otherwise glibc gives large ones back to the system, which then has to clear every page anew: up to 4,000 pages and
    10 ms per step of the recipe ``seed``.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if any(libc.mallopt(M_MMAP_THRESHOLD, most) for most in (KEPT_BYTES, OLDER_MOST)):
            libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def conv2d(images: torch.Tensor, kernel: torch.Tensor, padding: str, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
    # A permuted (n, h, w, c) tensor is torch's channels_last format: nothing is copied on the way in or out.
    images, kernel = images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1)
    if current_precision() == "float32":
        return torch.nn.functional.conv2d(images, kernel, bias, padding=padding).permute(0, 2, 3, 1)
    features = torch.nn.functional.conv2d(_rounded(images), _rounded(kernel), padding=padding)
    features = _rounded(features).float().permute(0, 2, 3, 1)
    return features if bias is None else features + bias


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` rounded to bfloat16, in what can be multiplied; its gradient is rounded too."""
    rounded = tensor.bfloat16()
    return rounded if CAN_MULTIPLY_BFLOAT16 or tensor.device.type != "cpu" else rounded.float()


def max_pool2d(images: torch.Tensor) -> torch.Tensor:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is left out."""
    return torch.nn.functional.max_pool2d(images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def batch_norm(
    images: torch.Tensor, offset: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalise (n, h, w, c) over all but the last axis; see ``Adapter``."""
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


def apply_adam(
    step: AdamStep,
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[torch.Tensor],
) -> None:
    """Take one step of Adam; see ``Adapter``."""
    # On a processor these cost nothing; elsewhere, where this has not been measured, each waits for the device.
    rate, count = float(step.learning_rate), int(step.count)
    scale = rate * math.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    many = torch.tensor(MANY_STEPS, device=gradients[0].device)
    rows = list(zip(variables, gradients, momentums, velocities, strict=True))
    for decays in (True, False):
        chosen = [row for row in rows if (len(row[0].shape) > 1) == decays]
        adamw(
            [variable.value for variable, *_ in chosen],
            [gradient.contiguous() for _, gradient, *_ in chosen],  # the fused kernel heeds no strides
            [momentum.value for *_, momentum, _ in chosen],
            [velocity.value for *_, velocity in chosen],
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


def devices() -> list[str]:
    """Return the names of the devices that PyTorch sees."""
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *apple, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def parts(size: int, ghost_batch: int = 0) -> list[Part]:
    """Leave a batch whole, if it may be; see ``Adapter``."""
    return ghosts_of(size, ghost_batch or size)


def predictor(network: Any) -> Forward:
    """Return ``network`` as a function; see ``Adapter``."""
    device = network.trainable_variables[0].value.device

    @keras_defaults()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.array(network(torch.as_tensor(images, device=device), training=False).cpu())

    return forward


class TorchEngine:
    """A network and its optimizer, updated in place; the gradient is a recorded list of operations."""

    def __init__(
        self,
        network: Any,
        optimizer: Any,
        objective: Objective,
        ghost_batch: int = 0,
        precision: Precision = "float32",
    ) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._ghost_batch, self._precision = ghost_batch, precision
        self._variables = network.trainable_variables
        self._device = self._variables[0].value.device
        self._recorded: dict[int, torch.fx.GraphModule] = {}
        self.logits = predictor(network)

    @keras_defaults()  # Keras asks for them where the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        """Take optimizer steps; see ``Engine``."""
        with torch.no_grad():
            return [Sums(*row) for row in self._train(steps).tolist()]

    def _train(self, steps: Steps) -> torch.Tensor:
        images, labels, weights = (torch.as_tensor(array, device=self._device) for array in steps[:-1])
        trainable = [variable.value.detach() for variable in self._variables]
        fixed = [variable.value for variable in self._network.non_trainable_variables]
        found = []
        for *batch, rate in zip(images, labels, weights, steps.learning_rates.tolist(), strict=True):
            gradients, fixed, sums = self._added(trainable, fixed, batch)
            self._optimizer.learning_rate.assign(rate)
            self._optimizer.apply(gradients, self._variables)
            del gradients  # the next step finds their memory free and still in the cache
            found.append(sums)
        for variable, value in zip(self._network.non_trainable_variables, fixed, strict=True):
            variable.assign(value)
        return torch.stack(found)

    def _added(self, trainable: Any, fixed: Any, batch: Any) -> tuple[Any, Any, torch.Tensor]:
        """Return the gradients of a batch, what the other variables become, and the sums."""
        total, found = batch[-1].sum(), []
        for part in parts(len(batch[-1]), self._ghost_batch):
            arrays = [array[part.first : part.stop] for array in batch]
            arguments = (
                trainable,
                fixed,
                *arrays,
                total,
                torch.tensor(part.first, dtype=torch.int32, device=self._device),
            )
            found.append(self._differentiated(arguments)(*arguments))
        gradients, changed, sums = zip(*found, strict=True)
        if len(found) == 1:
            return gradients[0], changed[0], sums[0]
        moved = [settled(before, after) for before, *after in zip(fixed, *changed, strict=True)]
        return [sum(each) for each in zip(*gradients, strict=True)], moved, sum(sums)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of every variable, by path."""
        named = paths(self._network, self._optimizer)
        return {path: np.array(variable.value.detach().cpu()) for path, variable in named}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable from what ``state`` returned."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])

    def _differentiated(self, arguments: tuple[Any, ...]) -> torch.fx.GraphModule:
        # Recorded once per size of a part: a step then walks through neither Keras' layers nor torch's own recording of
        # what is to be differentiated. 15.5 ms for one of the recipe `seed` on two cores, against 20.
        # `partial`, because make_fx counts the `self` of a method as an argument.
        size = len(arguments[2])
        if size not in self._recorded:
            with torch.enable_grad():
                self._recorded[size] = _simplified(make_fx(partial(self._differentiate))(*arguments))
        return self._recorded[size]

    def _differentiate(
        self,
        trainable: list[torch.Tensor],
        fixed: list[torch.Tensor],
        images: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        total: torch.Tensor,
        first: torch.Tensor,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in trainable]
        with calling_on(Part(first, first + len(images)), self._precision):
            logits, fixed = self._network.stateless_call(leaves, fixed, images, training=True)
        sums = self._objective(logits, labels, weights)
        gradients = torch.autograd.grad(sums.loss / total, leaves)
        return list(gradients), list(fixed), torch.stack(sums).detach()


GUARDS = (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh_copy.default)
"""Copies that guard constants and leaves against what no recorded operation does: writing to them."""


def _require_repeatable(node: torch.fx.Node) -> None:
    # Replayed, an operation that writes to a constant, or draws random numbers, would not do what it did at first.
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    if schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags:
        raise BackendError(
            f"torch recorded {node.target}; expected operations that neither write to their inputs nor draw random "
            "numbers: use layers without them, or another backend"
        )


def _simplified(recorded: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Leave out what guards against writing, and compute once what depends on constants alone."""
    graph = recorded.graph
    for node in graph.nodes:
        _require_repeatable(node)
        if node.target in GUARDS:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "call_function" and all(each.op == "get_attr" for each in node.all_input_nodes):
            given = torch.fx.map_arg((node.args, node.kwargs), lambda each: getattr(recorded, each.target))
            recorded.register_buffer(f"constant_{node.name}", node.target(*given[0], **given[1]))
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(f"constant_{node.name}"))
            graph.erase_node(node)
    graph.eliminate_dead_code()
    recorded.recompile()
    return recorded


compile = TorchEngine
