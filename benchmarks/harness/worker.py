"""The worker process of an implementation: ``python -m benchmarks.harness.worker MODULE:FUNCTION``.

The first line on stdin is the task, each further one starts a round, and the end of stdin is the end. Each round is
answered by one line of JSON on stdout; whatever libraries print there goes to stderr instead.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cifarnet.system import peak_memory_bytes


@dataclass(frozen=True, kw_only=True)
class Task:
    """The input of a worker."""

    folder: Path
    """Folder for its files."""
    cores: int
    """Processor cores that it may use; the process is confined to so many."""
    settings: Mapping[str, Any]
    """Settings that all implementations share."""
    options: Mapping[str, Any]
    """Options of this implementation."""


class Rounds:
    """The worker's side of the protocol: ``ready`` once, then ``wait`` and ``done`` in each round."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        self._source, self._sink, self._began = source, sink, time.perf_counter()

    def ready(self, **facts: Any) -> None:
        """Report that rounds can begin."""
        self._send(facts)

    def wait(self) -> None:
        """Wait for the next round and start its clock; raise ``SystemExit`` after the last one."""
        if not self._source.readline():
            raise SystemExit(0)
        self._began = time.perf_counter()

    def elapsed(self) -> float:
        """Return the seconds of this round so far."""
        return time.perf_counter() - self._began

    def done(self, **sample: Any) -> None:
        """Report the sample of a round; its seconds, unless given, and the peak memory of this process are added."""
        self._send({"seconds": self.elapsed()} | sample)

    def _send(self, facts: Mapping[str, Any]) -> None:
        print(json.dumps(dict(facts) | {"peak_memory_bytes": peak_memory_bytes()}), file=self._sink, flush=True)


def _private_stdout() -> TextIO:
    """Return stdout for our lines alone, and send everything else that is printed to stderr."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def main() -> None:
    sink = _private_stdout()
    document = json.loads(sys.stdin.readline())
    task = Task(**document | {"folder": Path(document["folder"])})
    if hasattr(os, "sched_setaffinity"):  # before a framework counts the cores; macOS cannot
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.cores])
    module, _, function = sys.argv[1].partition(":")
    getattr(importlib.import_module(module), function)(task, Rounds(sys.stdin, sink))


if __name__ == "__main__":
    main()
