"""Contenders side by side: all are started, then take turns, so that no two ever run at once.

Each has a process of its own that stays alive from its start to the last round. A change of the machine's speed thus
meets all of them, and no contender is measured while another starts or compiles.
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

from .records import Sheet

PROJECT = Path(__file__).parents[2]
MOST_SECONDS = 900
"""Longest wait for a start or a turn; a contender that takes longer has failed."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries read to learn how many threads to use."""
Judge = Callable[[Path], str | None]
"""Looks at what a contender left in its folder when it was ready; returns why it may not take part, or None."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One program that takes part, or one variant of it."""

    name: str
    """What the tables call it."""
    module: str
    """Python module whose ``contend(task, turns)`` is run."""
    group: str
    """``cifarnet``, ``Keras``, ``loop``, ``runtime`` or ``limit``: against which others it is set."""
    framework: str = ""
    """Of what it computes in: jax, torch, tensorflow, onnxruntime, ..."""
    needs: tuple[str, ...] = ()
    """Modules that have to be installed."""
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return what it needs and is not installed here."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


class ContenderError(Exception):
    """A contender ended, took too long or said what is no answer."""


class Process:
    """A contender under way."""

    def __init__(self, contender: Contender, folder: Path, settings: Mapping[str, Any], cores: int) -> None:
        self.contender, self.folder = contender, folder
        self._errors = (folder / "stderr.txt").open("w+")
        threads = dict.fromkeys(THREAD_VARIABLES, str(cores))
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.turns", contender.module],
            cwd=PROJECT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | threads | dict(contender.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        task = {"folder": str(folder), "cores": cores, "settings": settings, "options": dict(contender.options)}
        self._say(json.dumps(task))

    def take_turn(self) -> dict[str, Any]:
        """Give the contender a turn and return its sample. Raises ``ContenderError``."""
        self._say("turn")
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Return the contender's next line. Raises ``ContenderError``."""
        stdout = self._child.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], MOST_SECONDS)[0]:
            raise ContenderError(f"no answer within {MOST_SECONDS} seconds")
        try:
            answer: dict[str, Any] = json.loads(stdout.readline())
        except ValueError as error:
            raise ContenderError(self._last_words()) from error
        return answer

    def close(self) -> None:
        """End the contender."""
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        try:
            self._child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._errors.close()

    def _say(self, line: str) -> None:
        stdin = self._child.stdin
        assert stdin is not None
        try:
            print(line, file=stdin, flush=True)
        except OSError as error:
            raise ContenderError(self._last_words()) from error

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=5)  # it may still be writing why
        lines = (self.folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"ended with code {self._child.poll()} and said nothing"


@contextlib.contextmanager
def field_of(
    contenders: Sequence[Contender],
    settings: Mapping[str, Any],
    sheet: Sheet,
    *,
    cores: int,
    cell: str = "",
    judge: Judge | None = None,
) -> Iterator[list[Process]]:
    """Start every contender, one after the other, and end them all afterwards.

    Yields those that are ready; why another one is not stands in ``sheet``, as everything else does.
    """
    processes: list[Process] = []
    with tempfile.TemporaryDirectory() as root:
        try:
            for index, contender in enumerate(contenders):
                folder = Path(root) / str(index)
                folder.mkdir()
                process = _started(contender, folder, settings, sheet, cores=cores, cell=cell, judge=judge)
                processes += [process] if process else []
            yield processes
        finally:
            for process in processes:
                process.close()


def _started(
    contender: Contender,
    folder: Path,
    settings: Mapping[str, Any],
    sheet: Sheet,
    *,
    cores: int,
    cell: str,
    judge: Judge | None,
) -> Process | None:
    facts = {"contender": contender.name, "cell": cell, "group": contender.group, "framework": contender.framework}
    if missing := contender.missing():
        sheet.add("not installed", **facts, reason=f"not installed: {', '.join(missing)}")
        return None
    began = time.perf_counter()
    process = Process(contender, folder, settings, cores)
    try:
        ready = process.hear()
    except ContenderError as error:
        process.close()
        sheet.add("failed", **facts, reason=str(error))
        return None
    if judge and (reason := judge(folder)):
        process.close()
        sheet.add("refused", **facts, reason=reason)
        return None
    sheet.add("start", **facts, cores=cores, start_seconds=time.perf_counter() - began, **ready)
    return process


def take_turns(processes: list[Process], sheet: Sheet, *, rounds: int, cell: str = "", warm_up: bool = True) -> None:
    """Give each of ``processes`` a turn per round, in an order drawn anew each time; the first is the warm-up.

    A contender that fails leaves the list, and ``sheet`` says why.
    """
    rng = random.Random(0)  # noqa: S311  # an order, no secret
    for number in range(rounds + warm_up):
        for process in rng.sample(processes, len(processes)):
            kind = "warm-up" if warm_up and number == 0 else "turn"
            if turn(process, sheet, kind=kind, cell=cell) is None:
                processes.remove(process)


def turn(process: Process, sheet: Sheet, *, kind: str, cell: str) -> dict[str, Any] | None:
    """Give one turn, write its sample down and return it; None when the contender failed, which is written down too."""
    name = process.contender.name
    try:
        sample = process.take_turn()
    except ContenderError as error:
        process.close()
        facts = {"group": process.contender.group, "framework": process.contender.framework}
        sheet.add("failed", contender=name, cell=cell, **facts, reason=str(error))
        return None
    sheet.add(kind, contender=name, cell=cell, **sample)
    return sample
