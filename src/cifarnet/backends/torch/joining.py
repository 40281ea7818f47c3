"""Join the other workers that ``torchrun`` or another launcher started."""

import atexit
import os
import socket
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarnet.backends.workers import LOOPBACK, Workers, joining, lost_worker, within

LEAVE_S = 5.0
"""Seconds to wait at exit for gloo's threads, one of which may still wait for a worker that has ended."""
POLL_S = 0.05
"""Interval at which a store is polled, in seconds."""
NOTE = "cifarnet"
"""Key of our entry in the store of ``torchrun``."""


def join(timeout_s: float) -> Workers:
    """Join the other workers that ``torchrun`` started. Also on GPUs they talk by gloo."""
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

    def leave() -> None:
        nonlocal gloo
        gloo = None
        group.destroy_process_group()

    def leave_in_time() -> None:
        try:
            within(LEAVE_S, leave)
        except TimeoutError:
            pass
        except RuntimeError:  # Python 3.12.1 starts no thread at exit; after a lost worker torch may raise it
            with suppress(RuntimeError):
                leave()

    atexit.register(leave_in_time)  # a thread of gloo that frees a tensor once Python ends would abort the process
    return Workers(group.get_rank(), count, all_gather, **_notes())


def _rendezvous(timeout: timedelta) -> dict[str, Any]:
    """Return arguments for ``init_process_group``; none if torch's own rendezvous is enough."""
    host, names = os.environ.get("MASTER_ADDR", ""), ("MASTER_PORT", "RANK", "WORLD_SIZE")
    if not os.environ.keys() >= set(names):
        return {}  # torch names what is missing
    port, rank, count = (int(os.environ[name]) for name in names)
    if _has_agent_store():
        store = _of_this_attempt(_agent_store(), rank, count, timeout)
    elif host in LOOPBACK:  # torch would listen on every address
        listener = None if rank else socket.create_server((host, port)).detach()
        store = torch.distributed.TCPStore(host, port, count, rank == 0, timeout, master_listen_fd=listener)
    else:
        return {}
    return {"store": store, "rank": rank, "world_size": count}


def _of_this_attempt(store: Any, rank: int, count: int, timeout: timedelta) -> Any:
    """Return a new part of ``torchrun``'s store, because the rest has addresses of workers that have ended.

    The first worker draws the name of the part and tells it to each of the others, which repeat it. So that no old
    entry is taken for an answer, they ask with a random name of their own.
    """
    own, deadline, others = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds(), range(1, count)

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    while time.monotonic() < deadline:
        if rank:
            store.set(f"asked by {rank}", own)
            asked, _, name = read(f"told {rank}").partition(" ")
            if asked == own:
                store.set(f"heard by {rank}", name)
                return torch.distributed.PrefixStore(name, store)
        else:
            if all(read(f"heard by {other}") == own for other in others):
                return torch.distributed.PrefixStore(own, store)
            for other in others:
                store.set(f"told {other}", f"{read(f'asked by {other}')} {own}")
        time.sleep(POLL_S)
    raise TimeoutError(f"not all of {count} workers came within {timeout.total_seconds():g} s")


def _has_agent_store() -> bool:
    """Return whether ``torchrun`` has a store, which outlives its workers."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _agent_store() -> Any:
    return torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def _notes() -> dict[str, Any]:
    """Return ``recall`` and ``remember`` of ``Workers``, if ``torchrun`` has a store for them."""
    if not _has_agent_store():
        return {}
    store = _agent_store()
    is_restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"

    def recall() -> str | None:
        return store.get(NOTE).decode() if is_restarted and store.check([NOTE]) else None

    return {"recall": recall, "remember": partial(store.set, NOTE)}
