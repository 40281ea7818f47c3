"""Run a piece of work in a forked child, which may die, hang or be killed, and tell how it ended.

The parent imports what the work needs and executes nothing on a framework, so that a fork is cheap and safe.
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
"""Exit code of a child whose work raised what nobody caught; its output has the traceback."""
UNWRITTEN = 120
"""As Python's own, of a process whose stdout could not take the rest."""
POLL_S = 0.004


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
    """Fork a child that does ``work``, with its output in ``log`` (stdout in a file of its own), and return its pid."""
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
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering) for number, buffering in ((1, -1), (2, 1)))
        faulthandler.enable(2)
        code = work() or 0
    except BaseException:  # noqa: BLE001  # the child ends here whatever happens
        traceback.print_exc()
    finally:
        os._exit(code or (0 if _flushed() else UNWRITTEN))


def _flushed() -> bool:
    """Flush what was printed, and say whether that went well, as Python does when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    finally:
        sys.stderr.flush()
    return True


def wait(
    pid: int, log: Path, *, limit_s: float, watch: Callable[[], bool] = lambda: False, poll_s: float = POLL_S
) -> End:
    """Wait for a child; kill it once ``watch`` says so, and when it takes longer than the limit, which is a hang."""
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


def live(work: Callable[[], int | None], log: Path, *, limit_s: float = 300, stdout: Path | None = None) -> End:
    """Do ``work`` in a child and wait for its end."""
    return wait(begin(work, log, stdout), log, limit_s=limit_s)


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
