"""The adapter for PyTorch: traced steps in the channels-last memory format."""

import ctypes
import math
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.adamw import adamw

from cifarnet.config import Precision
from cifarnet.errors import BackendError
from cifarnet.system import multiplies_bfloat16

from .defaults import default_settings
from .microbatches import (
    MicroBatch,
    calling_on,
    current_precision,
    divided,
    ghost_batches,
    merge_updates,
)
from .protocol import AdamStep, Forward, Objective, Steps, Sums, paths
from .workers import ALONE, LOOPBACK, Workers, joining, lost_worker

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""See ``Adapter``."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's ``malloc.h``."""
KEPT_BYTES = 2**30
"""More than the largest allocation of a step, in bytes."""
OLDER_MAXIMUM = 2**25
"""Maximum of ``M_MMAP_THRESHOLD`` before glibc 2.35, in bytes."""
CAN_MULTIPLY_BFLOAT16 = multiplies_bfloat16()
"""Whether the CPU has the instructions that make torch's bfloat16 convolution the faster one."""
MANY_STEPS = 1e9
"""A step count at which torch's own bias correction is a multiplication by one."""


def prepare_process() -> None:
    """Let the C library keep freed memory, because every step allocates tensors of the same sizes again.

    By default glibc returns large blocks to the system, which then has to clear each page again: up to 4,000 pages and
    10 ms per step of the recipe ``seed``.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if any(libc.mallopt(M_MMAP_THRESHOLD, size) for size in (KEPT_BYTES, OLDER_MAXIMUM)):
            libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Disable autocast and inference mode, and set the default dtype and precision of products; see ``Adapter``."""
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), ExitStack() as autocasts:
            for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
                autocasts.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_default_dtype(before[0])
        torch.set_float32_matmul_precision(before[1])


def conv2d(images: torch.Tensor, kernel: torch.Tensor, padding: str, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
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
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is dropped."""
    return torch.nn.functional.max_pool2d(images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def batch_norm(
    images: torch.Tensor, offset: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalize (n, h, w, c) over all but the last axis; see ``Adapter``."""
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
    # No cost on a CPU. On other devices each conversion synchronizes with the device; its cost was not measured.
    rate, count = float(step.learning_rate), int(step.count)
    scale = rate * math.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    many = torch.tensor(MANY_STEPS, device=gradients[0].device)
    rows = list(zip(variables, gradients, momentums, velocities, strict=True))
    for decays in (True, False):
        chosen = [row for row in rows if (len(row[0].shape) > 1) == decays]
        adamw(
            [variable.value for variable, *_ in chosen],
            [gradient.contiguous() for _, gradient, *_ in chosen],  # the fused kernel ignores strides
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
    """Return the names of the devices available to PyTorch."""
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *apple, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def threads() -> int:
    """Return the number of PyTorch's threads; see ``Adapter``."""
    return int(torch.get_num_threads())


def micro_batches(size: int, ghost_batch: int = 0, parts: int | None = None) -> list[MicroBatch]:
    """Return one micro-batch, unless ghost batches are smaller; see ``Adapter``."""
    return divided(size, parts) if parts else ghost_batches(size, ghost_batch or size)


def join(timeout_s: float) -> Workers:
    """Join the other workers that ``torchrun`` started; see ``Adapter``. Also on GPUs they talk by gloo."""
    group, timeout = torch.distributed, timedelta(seconds=timeout_s)
    if os.environ.get("MASTER_ADDR") in LOOPBACK and Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with joining(RuntimeError, ValueError, OSError):
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        if not group.is_initialized():
            group.init_process_group("gloo", timeout=timeout, **_rendezvous(timeout))
        gloo = group.new_group(backend="gloo", timeout=timeout)
    count = group.get_world_size()

    def all_gather(array: NDArray[Any]) -> NDArray[Any]:
        sent = torch.from_numpy(np.array(array))
        received = torch.empty((count, *array.shape), dtype=sent.dtype)
        with lost_worker(RuntimeError):
            group.all_gather(list(received), sent, group=gloo)
        return np.asarray(received)

    return Workers(group.get_rank(), count, all_gather, **_notes())


def _rendezvous(timeout: timedelta) -> dict[str, Any]:
    """Return the arguments with which workers on a loopback address meet there alone; torch would listen everywhere."""
    host, names = os.environ.get("MASTER_ADDR", ""), ("MASTER_PORT", "RANK", "WORLD_SIZE")
    if host not in LOOPBACK or _has_agent_store() or not os.environ.keys() >= set(names):
        return {}  # torch names what is missing
    port, rank, count = (int(os.environ[name]) for name in names)
    listener = None if rank else socket.create_server((host, port)).detach()
    store = torch.distributed.TCPStore(host, port, count, rank == 0, timeout, master_listen_fd=listener)
    return {"store": store, "rank": rank, "world_size": count}


def _has_agent_store() -> bool:
    """Return whether ``torchrun`` has a store, which outlives its workers."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


NOTE = "cifarnet"
"""Key of our entry in the store of ``torchrun``."""


def _notes() -> dict[str, Any]:
    """Return ``recall`` and ``remember`` of ``Workers``, if they have a place."""
    if not _has_agent_store():
        return {}
    store = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    is_restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"

    def recall() -> str | None:
        return store.get(NOTE).decode() if is_restarted and store.check([NOTE]) else None

    return {"recall": recall, "remember": partial(store.set, NOTE)}


def predictor(network: Any) -> Forward:
    """Return ``network`` as a function; see ``Adapter``."""
    device = network.trainable_variables[0].value.device

    @default_settings()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.array(network(torch.as_tensor(images, device=device), training=False).cpu())

    return forward


class TorchEngine:
    """A network and its optimizer, updated in place; the gradient computation is traced once per batch size."""

    def __init__(
        self,
        network: Any,
        optimizer: Any,
        objective: Objective,
        ghost_batch: int = 0,
        precision: Precision = "float32",
        parts: int | None = None,
        workers: Workers = ALONE,
        *,
        own_rate: bool = False,
    ) -> None:
        self._network, self._optimizer, self._objective = network, optimizer, objective
        self._ghost_batch, self._precision = ghost_batch, precision
        self._own_rate = own_rate
        self._parts, self._workers = parts, workers
        self._variables = network.trainable_variables
        self._device = self._variables[0].value.device
        self._traced: dict[int, Callable[..., Any]] = {}
        self.logits = predictor(network)

    @default_settings()  # Keras reads them while the step is traced
    def train(self, steps: Steps) -> list[Sums]:
        """Take optimizer steps; see ``Engine``."""
        with torch.no_grad():
            return [Sums(*row) for row in self._train(steps).tolist()]

    def _train(self, steps: Steps) -> torch.Tensor:
        images, labels, weights = (torch.as_tensor(array, device=self._device) for array in steps[:-1])
        trainable = [variable.value.detach() for variable in self._variables]
        fixed = [variable.value for variable in self._network.non_trainable_variables]
        rows = []
        for *batch, rate in zip(images, labels, weights, steps.learning_rates.tolist(), strict=True):
            gradients, fixed, sums = self._accumulated(trainable, fixed, batch)
            if not self._own_rate:
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
        ranges = micro_batches(len(batch[-1]), self._ghost_batch, self._parts)
        for micro_batch in (ranges[index] for index in self._workers.own(len(ranges))):
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
        if self._workers.count > 1:
            results = self._gathered(results, len(ranges))
        gradients, changed, sums = zip(*results, strict=True)
        merged = [merge_updates(before, after) for before, *after in zip(fixed, *changed, strict=True)]
        return [sum(each) for each in zip(*gradients, strict=True)], merged, sum(sums)

    def _gathered(self, own: list[Any], count: int) -> list[Any]:
        """Return the results of the micro-batches of all workers, in order."""
        flat = [[*gradients, *changed, sums] for gradients, changed, sums in own]
        arrays = self._workers.in_order([[tensor.numpy(force=True) for tensor in row] for row in flat], count)
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

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of all variables, by path."""
        named = paths(self._network, self._optimizer)
        return {path: np.array(variable.value.detach().cpu()) for path, variable in named}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set all variables from the result of ``state``."""
        for path, variable in paths(self._network, self._optimizer):
            variable.assign(state[path])

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
        with calling_on(MicroBatch(first, first + len(images)), self._precision):
            logits, fixed = self._network.stateless_call(leaves, fixed, images, training=True)
        sums = self._objective(logits, labels, weights)
        gradients = torch.autograd.grad(sums.loss / total, leaves)
        return list(gradients), list(fixed), torch.stack(sums).detach()


GUARDS = (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh_copy.default)
"""Copies that protect constants and leaves from in-place operations, which a traced step does not have."""


def _functional(traced: torch.fx.GraphModule, arguments: tuple[Any, ...]) -> torch.fx.GraphModule:
    """Return ``traced`` with new results in place of in-place operations on its own, which Keras' losses have."""
    if not any(_is_mutable(node) for node in traced.graph.nodes):
        return traced
    functional: torch.fx.GraphModule = make_fx(torch.func.functionalize(traced))(*arguments)
    return functional


def _is_mutable(node: torch.fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _require_repeatable(node: torch.fx.Node) -> None:
    # An operation that writes to a constant or draws random numbers would give other results when repeated.
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
