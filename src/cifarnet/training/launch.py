"""Launch the workers of data-parallel training on this machine, or join and compare those that a launcher started."""

import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from numpy.typing import NDArray

from cifarnet.arguments import Function
from cifarnet.backends import ALONE, Workers, adapter, choose
from cifarnet.errors import BackendError, UsageError, WorkerError
from cifarnet.interrupt import INTERRUPTED, SIGNALS

COUNTS = {
    "torch": ("WORLD_SIZE",),
    "jax": ("JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"),
}
"""Environment variables with the number of workers, by backend: of the launcher itself first."""
HOST = "127.0.0.1"
"""Address at which the workers of one machine talk."""
TIMEOUT_VARIABLE = "CIFARNET_WORKER_TIMEOUT"
DEFAULT_TIMEOUT_S = 300.0
"""Seconds that a worker waits for the others, which may have to compile or to read images longer than it."""
GRACE_S = 20.0
"""Seconds for the other workers to notice that one has ended."""
POLL_S = 0.1


@functools.cache
def join() -> Workers:
    """Return the workers of this training, joining them first if a launcher started this process as one of several.

    Raises ``BackendError`` for another backend than the launcher's, and ``WorkerError`` if the others do not answer.
    """
    backend = choose()
    return ALONE if workers_started(backend) == 1 else adapter().join(timeout_s())


def after_joining(function: Function) -> Function:
    """Decorate a function to join the other workers first, if any: JAX cannot join them once it has been used."""

    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        join()
        return function(*positional, **named)

    return call  # type: ignore[return-value]  # it has the signature of the function


def workers_started(backend: str) -> int:
    """Return the number of workers that a launcher for ``backend`` started, or 1. Raises ``BackendError``."""
    count = max(map(_number, COUNTS.get(backend, ())), default=1)
    for other, (variable, *_) in COUNTS.items():
        if count == 1 < _number(variable):
            raise BackendError(
                f"{variable} is {_number(variable)}, the backend {backend}; expected {other}, whose launcher sets it: "
                f"choose that one, or unset {variable}"
            )
    return count


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 1


def timeout_s() -> float:
    """Return how many seconds a worker waits for the others. Raises ``UsageError``."""
    text = os.environ.get(TIMEOUT_VARIABLE, str(DEFAULT_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(
            f"{TIMEOUT_VARIABLE} is {text!r:.40}; expected a number of seconds above 0: correct or unset it"
        )
    return seconds


def require_alike(workers: Workers, facts: Mapping[str, Any]) -> None:
    """Raise the same ``WorkerError`` in all workers unless they have the same ``facts``, by name."""
    if workers.count == 1:
        return
    first, *others = (json.loads(text) for text in workers.texts(json.dumps(facts)))
    for rank, theirs in enumerate(others, start=1):
        for name in dict.fromkeys((*first, *theirs)):
            if first.get(name) != theirs.get(name):
                raise WorkerError(
                    f"worker {rank} has {name} {theirs.get(name)!s:.60}; expected {first.get(name)!s:.60} as worker 0 "
                    "has: start all workers by the same command, with the same images and packages"
                )


def digest_of(state: Mapping[str, NDArray[Any]]) -> str:
    """Return the first digits of the SHA-256 (hex) of all variables."""
    return hashlib.sha256(b"".join(array.tobytes() for array in state.values())).hexdigest()[:12]


def start_workers(count: int, backend: str, command: Sequence[str]) -> int:
    """Run Python with the arguments ``command`` in ``count`` processes on this machine, and return their exit code.

    They talk on the loopback interface, each on an equal share of the cores. When one fails, the others end. Ctrl-C and
    SIGTERM reach all of them; the result is ``-SIGTERM`` if that ended them before training began. Raises
    ``BackendError`` for a backend that trains in one process.
    """
    if backend not in COUNTS:
        raise BackendError(
            f"the backend {backend} trains in one process; expected {' or '.join(COUNTS)} for --workers {count}: name "
            "one with --backend, or leave --workers out"
        )
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    for number in SIGNALS:  # a terminal sends them to the workers, too; twice within a second counts as once
        signal.signal(number, forward)
    try:
        for rank in range(count):
            variables = _variables(backend, rank, count, port)
            processes.append(_started(command, variables, _share(rank, count)))
    except BaseException:
        _kill(processes)
        raise
    return _ended(processes)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _variables(backend: str, rank: int, count: int, port: int) -> dict[str, str]:
    if backend == "jax":
        found = {"JAX_COORDINATOR_ADDRESS": f"{HOST}:{port}", "JAX_NUM_PROCESSES": count, "JAX_PROCESS_ID": rank}
    else:
        found = {"MASTER_ADDR": HOST, "MASTER_PORT": port, "WORLD_SIZE": count, "RANK": rank, "LOCAL_RANK": rank}
    return {name: str(value) for name, value in found.items()}


def _share(rank: int, count: int) -> set[int]:
    """Return a worker's equal share of the processor cores; none where a process cannot choose them."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    size = len(cores) // count
    own = cores[rank * size : (rank + 1) * size]
    return set(own or cores[rank % len(cores) :][:1] if cores else ())


def _started(command: Sequence[str], variables: Mapping[str, str], cores: set[int]) -> "subprocess.Popen[bytes]":
    before = os.sched_getaffinity(0) if cores else set()
    if cores:
        os.sched_setaffinity(0, cores)  # a new process inherits it
    try:
        return subprocess.Popen([sys.executable, *command], env=os.environ | variables)  # noqa: S603
    finally:
        if before:
            os.sched_setaffinity(0, before)


def _kill(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.kill()


def _ended(processes: "Sequence[subprocess.Popen[bytes]]") -> int:
    """Wait for all processes; when one has failed, for the others only a while. Return their exit code."""
    deadline = float("inf")
    while None in [process.poll() for process in processes]:  # a list, so that all of them are asked
        if any(process.returncode not in (None, 0, INTERRUPTED) for process in processes):
            deadline = min(deadline, time.monotonic() + GRACE_S)
        if time.monotonic() > deadline:
            _kill(processes)
        time.sleep(POLL_S)
    codes = {process.returncode for process in processes}
    return max(codes) if codes == {0} or codes <= {INTERRUPTED, -signal.SIGTERM} else 1
