"""Join the other workers by ``jax.distributed``."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from cifarnet.backends.workers import LOOPBACK, Workers, joining, lost_worker, within

HEARTBEAT_S = 20
"""Seconds without a heartbeat after which JAX treats a worker as failed and aborts the others."""


def join(timeout_s: float) -> Workers:
    """Join the other workers by ``jax.distributed``."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    is_local = address.rpartition(":")[0] in LOOPBACK
    bind_address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address if is_local else None)
    with joining(RuntimeError, ValueError):
        count, rank = (
            int(os.environ[name]) if name in os.environ else None for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        if not jax.distributed.is_initialized():
            jax.distributed.initialize(
                None,
                count,
                rank,
                initialization_timeout=math.ceil(timeout_s),
                coordinator_bind_address=bind_address,
                heartbeat_timeout_seconds=HEARTBEAT_S,
            )
        first_devices = {device.process_index: device for device in reversed(jax.devices())}
    count = jax.process_count()
    mesh = jax.sharding.Mesh(np.array([first_devices[rank] for rank in range(count)]), ("workers",))
    divided_rows, copied = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("workers",), ())
    )
    copy = jax.jit(lambda array: array, out_shardings=copied)

    def gathered(array: NDArray[Any]) -> NDArray[Any]:
        own = jax.device_put(array[None], first_devices[jax.process_index()])
        rows = jax.make_array_from_single_device_arrays((count, *array.shape), divided_rows, [own])
        return np.asarray(copy(rows).addressable_data(0))

    def all_gather(array: NDArray[Any]) -> NDArray[Any]:
        with lost_worker(RuntimeError, ValueError, TimeoutError):
            return np.asarray(within(timeout_s, gathered, array))

    with _silent_stdout():
        all_gather(np.zeros(1, np.float32))
    return Workers(jax.process_index(), count, all_gather)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Discard the lines that gloo prints when it connects, among which nobody would find our JSON."""
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)
