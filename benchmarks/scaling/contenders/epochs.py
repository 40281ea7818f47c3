"""One training, an epoch per turn, on so many memory-mapped images.

The network is tiny and the batch large, so that what is done per image outside the network would show.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.turns import Task, Turns

STATUS = Path("/proc/self/status")


def contend(task: Task, turns: Turns) -> None:
    """Train until there is no further turn."""
    cifarnet.prepare_process()
    cifarnet.choose_backend()
    count, whole = task.options["work"], cifarnet.open_dataset("synthetic")
    images = np.load(task.settings["images"], mmap_mode="r")[:count]
    labels = (np.arange(count) % 10).astype(np.int32)
    dataset = dataclasses.replace(whole, train=dataclasses.replace(whole.train, images=images, labels=labels))
    settings = cifarnet.recipe("seed")
    job = cifarnet.Job(
        recipe="seed",
        model=dataclasses.replace(settings.model, filters=(8,), dense_units=(16,)),
        train=dataclasses.replace(
            settings.train, batch_size=500, epochs=10_000, patience=10_000, validation_fraction=0.1
        ),
    )
    run = cifarnet.start(job, dataset, task.folder / "runs")
    cifarnet.carry_out(run, dataset, TakingTurns(turns))


class TakingTurns(cifarnet.Silent):
    """An observer that gives every turn an epoch, and watches the memory that belongs to no file."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._most = turns, 0.0
        turns.ready()
        turns.wait()

    def on_progress(self, progress: Any) -> None:
        """Look at the memory."""
        self._most = max(self._most, anonymous_memory_mb())

    def on_epoch(self, record: Any, progress: Any) -> None:
        """Report the epoch and wait for the next turn."""
        seconds = self._turns.elapsed()
        self._most = max(self._most, anonymous_memory_mb())
        self._turns.done(seconds=seconds, anonymous_memory_mb=self._most)
        self._turns.wait()


def anonymous_memory_mb() -> float:
    """Return the memory (10**6 bytes) that this process holds beside mapped files; 0 where the system does not tell."""
    found = re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else 0.0
