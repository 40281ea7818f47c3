"""The command with a tiny recipe and few images, as one of several workers that can fail in a chosen way."""

import json
import os
import signal
from dataclasses import replace
from functools import partial

from cifarnet import cli, data
from cifarnet.backends import choose
from cifarnet.interrupt import exit_on_interrupt
from cifarnet.recipes import RECIPES

choose()

from cifarnet.training import loop  # noqa: E402  # Keras, before the workers are joined
from tests.small_runs import SMALL_JOB, WORKERS_JOB  # noqa: E402

IMAGES = {"train": 320, "test": 100}


def main() -> None:
    """Run the command; the environment variable ``FAULT`` says which worker does what, and at which call."""
    fault = json.loads(os.environ.get("FAULT", "{}"))
    rank = int(os.environ.get("RANK", os.environ.get("JAX_PROCESS_ID", "0")))
    is_first_try = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    RECIPES["tiny"] = WORKERS_JOB
    RECIPES["plain"] = replace(SMALL_JOB, name="plain", train=replace(SMALL_JOB.train, epochs=1))
    mine = fault if rank == fault.get("rank") and is_first_try else {}
    data.synthetic = partial(data.synthetic, **IMAGES | mine.get("images", {}))
    if "signal" in mine:
        _send_at_call(mine["call"], signal.Signals[mine["signal"]])
    exit_on_interrupt()
    cli.main()


def _send_at_call(call: int, number: signal.Signals) -> None:
    calls, take = iter(range(1, 10**6)), loop.Session._take

    def dying(self, steps):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        take(self, steps)

    loop.Session._take = dying


if __name__ == "__main__":
    main()
