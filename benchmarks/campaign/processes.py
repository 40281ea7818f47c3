"""Run a function in a forked child, which may die, hang or be killed, and return how it ended.

The parent imports what the function needs and executes nothing on a framework, so that a fork is cheap and safe.
"""

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

UNEXPECTED = 70
"""Exit code of a child with an exception that nobody caught; its output has the traceback."""
UNWRITTEN = 120
"""Exit code of a child whose stdout could not take the rest, as Python's own."""
LIMIT_S = 300
"""Seconds after which a child hangs."""


@dataclass(frozen=True)
class End:
    """How a child ended."""

    status: int
    """Exit code, or minus the signal."""
    output: str
    """Stdout and stderr together."""
    hung: bool = False

    @property
    def last_line(self) -> str:
        """Return the last line of the output, which names the exception if there was one."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")[:300]


def begin(work: Callable[[], int | None], log: Path, stdout: Path | None = None) -> int:
    """Fork a child that does ``work``, with its output in ``log`` (or stdout in another file), and return its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = UNEXPECTED
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if stdout else descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w", 1)
        faulthandler.enable(2)
        code = work() or 0
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # the child ends here whatever happens
        traceback.print_exc()
        code = UNWRITTEN if code == 0 and isinstance(error, OSError) else code
    finally:
        os._exit(code)


def wait(
    pid: int, log: Path, *, limit_s: float = LIMIT_S, watch: Callable[[], bool] = lambda: False, poll_s: float = 0.004
) -> End:
    """Wait for a child; kill it once ``watch`` returns True, or after the limit, which is a hang."""
    deadline, hung, killed = time.monotonic() + limit_s, False, False
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            output = log.read_text(errors="replace") if log.exists() else ""
            return End(os.waitstatus_to_exitcode(status), output, hung)
        hung = hung or time.monotonic() > deadline
        if not killed and (hung or watch()):
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(poll_s)


def run(work: Callable[[], int | None], log: Path, *, limit_s: float = LIMIT_S, stdout: Path | None = None) -> End:
    """Do ``work`` in a child and wait for its end."""
    return wait(begin(work, log, stdout), log, limit_s=limit_s)


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
