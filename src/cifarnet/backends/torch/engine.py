"""The engine for PyTorch: traced steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx.experimental.proxy_tensor import make_fx

from cifarnet.backends.defaults import default_settings
from cifarnet.backends.microbatches import MicroBatch, calling_on, divided, merge_updates
from cifarnet.backends.protocol import DEFAULT_PLAN, Engine, Forward, Objective, Plan, Steps, Sums
from cifarnet.errors import BackendError

GUARDS = (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh_copy.default)
"""Copies that protect constants and leaves from in-place operations, which a traced step does not have."""


def micro_batches(size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
    """Return one micro-batch, unless ghost batches are smaller."""
    return divided(size, parts, ghost_batch or size)


def predictor(network: Any) -> Forward:
    device = network.trainable_variables[0].value.device

    @default_settings()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.array(network(torch.as_tensor(images, device=device), training=False).cpu())

    return forward


class TorchEngine(Engine):
    """A network and its optimizer, updated in place; the gradient computation is traced once per batch size."""

    def __init__(self, network: Any, optimizer: Any, objective: Objective, plan: Plan = DEFAULT_PLAN) -> None:
        super().__init__(network, optimizer, objective, plan)
        self._variables = network.trainable_variables
        self._device = self._variables[0].value.device
        self._traced: dict[int, Callable[..., Any]] = {}
        self.logits = predictor(network)

    @default_settings()  # Keras reads them while the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        with torch.no_grad():
            return [Sums(*row) for row in self._train(steps).tolist()]

    def _train(self, steps: Steps) -> torch.Tensor:
        images, labels, weights = (torch.as_tensor(array, device=self._device) for array in steps[:-1])
        trainable = [variable.value.detach() for variable in self._variables]
        fixed = [variable.value for variable in self._network.non_trainable_variables]
        rows = []
        for *batch, rate in zip(images, labels, weights, steps.learning_rates.tolist(), strict=True):
            gradients, fixed, sums = self._accumulated(trainable, fixed, batch)
            if not self._plan.own_rate:
                self._optimizer.learning_rate.assign(rate)
            self._optimizer.apply(gradients, self._variables)
            del gradients  # the next step can reuse their memory while it is in the cache
            rows.append(sums)
        for variable, value in zip(self._network.non_trainable_variables, fixed, strict=True):
            variable.assign(value)
        return torch.stack(rows)

    def _accumulated(self, trainable: Any, fixed: Any, batch: Any) -> Any:
        """Return the gradients of a batch, the updated other variables, and the sums."""
        total, results = batch[-1].sum(), []
        ranges = micro_batches(len(batch[-1]), self._plan.ghost_batch, self._plan.parts)
        for micro_batch in (ranges[index] for index in self._plan.workers.own(len(ranges))):
            arrays = [array[micro_batch.first : micro_batch.stop] for array in batch]
            arguments = (
                trainable,
                fixed,
                *arrays,
                total,
                torch.tensor(micro_batch.first, dtype=torch.int32, device=self._device),
            )
            results.append(self._differentiated(arguments)(*arguments))
        if len(ranges) == 1:
            return results[0]
        if self._plan.workers.count > 1:
            results = self._gathered(results, len(ranges))
        gradients, changed, sums = zip(*results, strict=True)
        merged = [merge_updates(before, after) for before, *after in zip(fixed, *changed, strict=True)]
        return [sum(each) for each in zip(*gradients, strict=True)], merged, sum(sums)

    def _gathered(self, own: list[Any], count: int) -> list[Any]:
        """Return the results of the micro-batches of all workers, in order."""
        flat = [[*gradients, *changed, sums] for gradients, changed, sums in own]
        arrays = self._plan.workers.in_order([[tensor.numpy(force=True) for tensor in row] for row in flat], count)
        # In the memory format of a gradient, because that of a matrix decides how its products are rounded.
        rows = [
            [
                torch.empty_like(tensor).copy_(torch.from_numpy(array))
                for tensor, array in zip(flat[0], row, strict=True)
            ]
            for row in arrays
        ]
        trained = len(self._variables)
        return [(row[:trained], row[trained:-1], row[-1]) for row in rows]

    def _array(self, variable: Any) -> NDArray[Any]:
        return np.array(variable.value.detach().cpu())

    def _differentiated(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        # Traced once per size of a micro-batch: a step then calls neither Keras' layers nor torch's autograd. It takes
        # 15.5 ms instead of 20 with the recipe `seed` on two cores.
        size = len(arguments[2])
        if size not in self._traced:
            with torch.enable_grad():
                self._traced[size] = self._trace(arguments)
        return self._traced[size]

    def _trace(self, arguments: tuple[Any, ...]) -> Any:
        # `partial`, because make_fx counts the `self` of a method as an argument.
        try:
            traced = make_fx(partial(self._differentiate))(*arguments)
        except RuntimeError:
            # A loss looked at values, as Keras' one_hot does. Any other error is raised again in the first step.
            return torch.enable_grad()(partial(self._differentiate))
        return _simplified(_functional(traced, arguments))

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
        with calling_on(MicroBatch(first, first + len(images)), self._plan.precision):
            logits, fixed = self._network.stateless_call(leaves, fixed, images, training=True)
        sums = self._objective(logits, labels, weights)
        gradients = torch.autograd.grad(sums.loss / total, leaves)
        return list(gradients), list(fixed), torch.stack(sums).detach()


def _functional(traced: torch.fx.GraphModule, arguments: tuple[Any, ...]) -> torch.fx.GraphModule:
    """Return ``traced`` with new results in place of in-place operations on its own, which Keras' losses have."""
    if not any(_is_mutable(node) for node in traced.graph.nodes):
        return traced
    return make_fx(torch.func.functionalize(traced))(*arguments)


def _is_mutable(node: torch.fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _require_repeatable(node: torch.fx.Node) -> None:
    """Raise ``BackendError`` if an operation would give other results when repeated.

    It does if it writes to a constant or draws random numbers.
    """
    if _is_mutable(node) or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise BackendError(
            f"torch traced {node.target}; expected operations that neither write to their inputs nor draw random "
            "numbers: use layers without them, or another backend"
        )


def _simplified(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Remove the protective copies, and fold constants."""
    graph = traced.graph
    for node in graph.nodes:
        _require_repeatable(node)
        if node.target in GUARDS:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "call_function" and all(each.op == "get_attr" for each in node.all_input_nodes):
            constants = torch.fx.map_arg((node.args, node.kwargs), lambda each: getattr(traced, each.target))
            traced.register_buffer(f"constant_{node.name}", node.target(*constants[0], **constants[1]))
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(f"constant_{node.name}"))
            graph.erase_node(node)
    graph.eliminate_dead_code()
    traced.recompile()
    return traced


compile = TorchEngine
