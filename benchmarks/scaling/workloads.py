"""The workloads that grow: each function gets its amount of work as the option ``work``."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.worker import Rounds, Task
from cifarnet.dataset import Dataset
from cifarnet.system import prepare_process

STATUS = Path("/proc/self/status")


def epochs(task: Task, rounds: Rounds) -> None:
    """Train an epoch per round on so many memory-mapped images.

    The network is tiny and the batch large, so that the cost per image outside the network would show.
    """
    from benchmarks.training.implementations.cifarnet_run import (
        EpochPerRound,
    )  # loads Keras, which `folders` is without

    count, whole = task.options["work"], cifarnet.load_dataset("synthetic")
    images = np.load(task.settings["images"], mmap_mode="r")[:count]
    labels = (np.arange(count) % 10).astype(np.int32)
    dataset = dataclasses.replace(whole, train=dataclasses.replace(whole.train, images=images, labels=labels))
    settings = {"filters": (8,), "dense_units": (16,), "batch_size": 500, "validation_fraction": 0.1}
    run = _start(task, dataset, settings | {"epochs": 10_000, "patience": 10_000})
    cifarnet.resume(run, dataset, observer=EpochPerRound(rounds, count, _memory))


def folders(task: Task, rounds: Rounds) -> None:
    """Classify so many files by `Classifier.stream` in each round; they are links to a few real ones."""
    classifier, folder = cifarnet.Classifier(task.settings["model"]), task.folder / "files"
    folder.mkdir()
    real = sorted(Path(task.settings["files"]).iterdir())
    for index in range(task.options["work"]):
        (folder / f"{index:07}.png").hardlink_to(real[index % len(real)])
    rounds.ready()
    while True:
        rounds.wait()
        found = sum(outcome.prediction is not None for outcome in classifier.stream(folder))
        seconds = rounds.elapsed()
        assert found == task.options["work"]
        rounds.done(seconds=seconds, **_memory())


def exports(task: Task, rounds: Rounds) -> None:
    """Export in each round, the parity check included, a network with so wide convolutions."""
    whole = cifarnet.load_dataset(task.settings["source"])
    few, test = task.settings["gate_training_images"], task.settings["gate_images"]
    dataset = dataclasses.replace(
        whole,
        train=dataclasses.replace(whole.train, images=whole.train.images[:few], labels=whole.train.labels[:few]),
        test=dataclasses.replace(whole.test, images=whole.test.images[:test], labels=whole.test.labels[:test]),
    )
    run = _start(task, dataset, {"filters": tuple(task.options["filters"]), "epochs": 1})
    cifarnet.resume(run, dataset)
    rounds.ready()
    while True:
        rounds.wait()
        size = cifarnet.export_run(run, dataset).size_bytes
        rounds.done(size_bytes=size, **_memory())


def _start(task: Task, dataset: Dataset, changes: dict[str, Any]) -> cifarnet.Run:
    """Start a run of the recipe ``seed`` with other settings."""
    prepare_process()
    cifarnet.choose_backend()
    from cifarnet.training.begin import begin  # Keras, now that its framework is chosen

    return begin(cifarnet.recipe("seed").changed(changes), dataset, task.folder / "runs")


def _memory() -> dict[str, float]:
    """Return the memory (10**6 bytes) of this process beside mapped files; 0 where the system does not report it."""
    found = re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return {"anonymous_memory_mb": int(found[1]) * 1024 / 1e6 if found else 0.0}
