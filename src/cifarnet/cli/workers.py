"""Start and join the workers of ``cifarnet train --workers``."""

import sys

from cifarnet.errors import UsageError
from cifarnet.run.folder import Run

from .display import be_silent


def start_workers(count: int, backend: str | None, resumed: Run | None) -> None:
    """Run this command in ``count`` processes and exit with their exit code, unless this process is one of them."""
    from cifarnet.backends import choose
    from cifarnet.training import launch

    chosen = choose(backend if resumed is None else resumed.record.backend)
    started = launch.workers_started(chosen)
    if started == 1:
        sys.exit(launch.start_workers(count, chosen, ["-m", "cifarnet", *sys.argv[1:]]))
    if started != count:
        raise UsageError(f"--workers is {count}; expected {started}, as the launcher started: leave --workers out")


def join_workers() -> None:
    """Join the other workers; then only the first one prints, except for errors."""
    from cifarnet.training.launch import join

    if not join().is_first:
        be_silent()
