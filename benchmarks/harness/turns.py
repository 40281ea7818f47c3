"""A contender's side: ``python -m benchmarks.harness.turns MODULE`` waits for its task, then for its turns.

The first line on stdin is the task, each further one a turn, and the end of stdin is the end. Each turn is answered by
one line of JSON on stdout; whatever libraries print there goes to stderr instead.
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
    """What a contender is told."""

    folder: Path
    """Where it may write."""
    cores: int
    """Processor cores that it may use; the process is confined to so many."""
    settings: Mapping[str, Any]
    """What all contenders are told."""
    options: Mapping[str, Any]
    """What this one is told: the variant that it is."""


class Turns:
    """Where a contender says that it is ready, waits for its turn, and says that it is done."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        self._source, self._sink, self._began = source, sink, time.perf_counter()

    def ready(self, **facts: Any) -> None:
        """Say that turns can begin."""
        self._say(facts)

    def wait(self) -> None:
        """Wait for the next turn and start its clock; after the last one, end this process' work by ``SystemExit``."""
        if not self._source.readline():
            raise SystemExit(0)
        self._began = time.perf_counter()

    def elapsed(self) -> float:
        """Return the seconds of this turn so far."""
        return time.perf_counter() - self._began

    def done(self, **sample: Any) -> None:
        """Say what the turn gave; its seconds, unless given, and the peak memory of this process so far are added."""
        self._say({"seconds": self.elapsed()} | sample)

    def _say(self, facts: Mapping[str, Any]) -> None:
        print(json.dumps(dict(facts) | {"peak_memory_bytes": peak_memory_bytes()}), file=self._sink, flush=True)


def _private_stdout() -> TextIO:
    """Return this process' stdout for our lines alone, and let everything else that is printed go to stderr."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def _confine(cores: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # before a framework counts the cores; macOS cannot
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def main() -> None:
    """Run the contender named on the command line."""
    sink = _private_stdout()
    document = json.loads(sys.stdin.readline())
    task = Task(**document | {"folder": Path(document["folder"])})
    _confine(task.cores)
    importlib.import_module(sys.argv[1]).contend(task, Turns(sys.stdin, sink))


if __name__ == "__main__":
    main()
