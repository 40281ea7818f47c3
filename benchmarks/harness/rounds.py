"""Run implementations side by side, in rounds: all are started, then each gets one turn per round, never two at once.

Each has a process of its own that lives from its start to the last round. A change of the machine's speed thus meets
all of them, and none is measured while another starts or compiles.
"""

import contextlib
import importlib.util
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import PROJECT

from .records import ResultsFile

LIMIT_S = 900
"""Longest wait for a start or a round; an implementation that takes longer has failed."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that numerical libraries read for their number of threads."""
Check = Callable[[Path], str | None]
"""Looks at the answers in an implementation's folder when it is ready; returns why it is refused, or None."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One program of a benchmark, or one variant of it."""

    name: str
    """Its row in the tables."""
    program: str
    """``module:function``, called with ``(task, rounds)`` in a worker process."""
    group: str
    """``cifarnet``, ``limit`` for the matrix products, or the kind of baseline: ``Keras``, ``loop``, ``runtime``,
    ``lower precision``."""
    framework: str = ""
    """Framework that computes: jax, torch, tensorflow, onnxruntime, ..."""
    needs: tuple[str, ...] = ()
    """Modules that have to be installed."""
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def facts(self, cell: str) -> dict[str, str]:
        """Return the fields that each stored line about its start or failure has."""
        return {"contender": self.name, "cell": cell, "group": self.group, "framework": self.framework}


class WorkerError(Exception):
    """A worker ended, took too long or gave an answer that is no JSON."""


class Worker:
    """The process of an implementation."""

    def __init__(self, implementation: Implementation, folder: Path, settings: Mapping[str, Any], cores: int) -> None:
        self.implementation, self.folder = implementation, folder
        self._errors = (folder / "stderr.txt").open("w+")
        threads = dict.fromkeys(THREAD_VARIABLES, str(cores))
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker", implementation.program],
            cwd=PROJECT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | threads | dict(implementation.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        options = dict(implementation.options)
        self._send(json.dumps({"folder": str(folder), "cores": cores, "settings": settings, "options": options}))

    def run_round(self) -> dict[str, Any]:
        """Start a round and return its sample. Raises ``WorkerError``."""
        self._send("round")
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """Return the worker's next line. Raises ``WorkerError``."""
        if not select.select([self._stdout], [], [], LIMIT_S)[0]:
            raise WorkerError(f"no answer within {LIMIT_S} seconds")
        try:
            answer: dict[str, Any] = json.loads(self._stdout.readline())
        except ValueError as error:
            raise WorkerError(self._last_words()) from error
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._errors.close()

    def _send(self, line: str) -> None:
        try:
            print(line, file=self._stdin, flush=True)
        except OSError as error:
            raise WorkerError(self._last_words()) from error

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=5)  # it may still be writing why
        lines = (self.folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"ended with code {self._child.poll()} without a message"


@contextlib.contextmanager
def started(
    implementations: Sequence[Implementation],
    settings: Mapping[str, Any],
    results: ResultsFile,
    *,
    cores: int,
    cell: str = "",
    check: Check = lambda _: None,
) -> Iterator[list[Worker]]:
    """Start every implementation, one after the other, and end them all afterwards.

    Yields the workers that are ready; ``results`` has the reason for each other one.
    """
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as stack:
        workers: list[Worker] = []
        for index, implementation in enumerate(implementations):
            facts, folder = implementation.facts(cell), Path(root) / str(index)
            missing = [module for module in implementation.needs if importlib.util.find_spec(module) is None]
            if missing:
                results.add("not installed", **facts, reason=f"not installed: {', '.join(missing)}")
                continue
            folder.mkdir()
            began = time.perf_counter()
            worker = Worker(implementation, folder, settings, cores)
            stack.callback(worker.close)
            try:
                ready = worker.receive()
            except WorkerError as error:
                results.add("failed", **facts, reason=str(error))
                continue
            if reason := check(folder):
                worker.close()
                results.add("refused", **facts, reason=reason)
                continue
            results.add("start", **facts, cores=cores, start_seconds=time.perf_counter() - began, **ready)
            workers.append(worker)
        yield workers


def run_rounds(workers: list[Worker], results: ResultsFile, *, rounds: int, cell: str, warm_up: bool = True) -> None:
    """Run one warm-up round and then ``rounds`` more, in an order drawn anew for each.

    A worker that fails leaves the list, and ``results`` has the reason.
    """
    rng = random.Random(0)  # noqa: S311  # an order, no secret
    for number in range(rounds + warm_up):
        for worker in rng.sample(workers, len(workers)):
            kind = "warm-up" if warm_up and number == 0 else "turn"
            if run_round(worker, results, kind=kind, cell=cell) is None:
                workers.remove(worker)


def run_round(worker: Worker, results: ResultsFile, *, kind: str = "turn", cell: str) -> dict[str, Any] | None:
    """Run one round, store its sample and return it; return None and store the reason if the worker failed."""
    try:
        sample = worker.run_round()
    except WorkerError as error:
        worker.close()
        results.add("failed", **worker.implementation.facts(cell), reason=str(error))
        return None
    results.add(kind, contender=worker.implementation.name, cell=cell, **sample)
    return sample
