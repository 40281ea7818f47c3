"""A training that kills itself: ``victim.py RUNS BATCHES WRITES`` starts a run, or goes on with the latest.

It dies by SIGKILL, as if the power failed, after so many batches or in the middle of so many durable writes of this
process, whichever comes first; 0 means never.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from .conftest import SMALL_MODEL, SMALL_TRAINING, Watcher


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(runs: Path, batches: int, writes: int) -> None:
    from cifarnet.data import synthetic
    from cifarnet.errors import RunError
    from cifarnet.job import Job
    from cifarnet.run import find_run
    from cifarnet.training import carry_out, start

    dataset = synthetic(train=320, test=100)
    job = Job(recipe="seed", model=SMALL_MODEL, train=SMALL_TRAINING, source="synthetic")
    if writes:
        die_in_write(writes)
    try:
        run = find_run(runs)
    except RunError:
        run = start(job, dataset, runs)
    carry_out(run, dataset, Watcher(), stop=die_after(batches))


def die_after(batches: int):
    asked = iter(range(1, 10**6))
    return lambda: die() if next(asked) == batches else False


def die_in_write(writes: int) -> None:
    """Die when half of the bytes of the given write are on their way to the disk."""
    sync, calls = os.fsync, iter(range(1, 10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) == writes:
            with suppress(OSError):  # a folder, or what is open for reading, cannot be cut short
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        sync(descriptor)

    os.fsync = fsync


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
