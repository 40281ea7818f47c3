"""`export_run`, the proof of every test image included, of a network so many times as wide in its convolutions."""

import dataclasses

import cifarnet
from benchmarks.harness.turns import Task, Turns

from .epochs import anonymous_memory_mb


def contend(task: Task, turns: Turns) -> None:
    """Export in each turn."""
    cifarnet.prepare_process()
    cifarnet.choose_backend()
    whole, settings = cifarnet.open_dataset(task.settings["source"]), cifarnet.recipe("seed")
    few, test = task.settings["gate_training_images"], task.settings["gate_images"]
    dataset = dataclasses.replace(
        whole,
        train=dataclasses.replace(whole.train, images=whole.train.images[:few], labels=whole.train.labels[:few]),
        test=dataclasses.replace(whole.test, images=whole.test.images[:test], labels=whole.test.labels[:test]),
    )
    job = cifarnet.Job(
        recipe="seed",
        model=dataclasses.replace(settings.model, filters=tuple(task.options["filters"])),
        train=dataclasses.replace(settings.train, epochs=1),
    )
    run = cifarnet.start(job, dataset, task.folder / "runs")
    cifarnet.carry_out(run, dataset, cifarnet.Silent())
    turns.ready()
    while True:
        turns.wait()
        size = cifarnet.export_run(run, dataset).size_bytes
        turns.done(size_bytes=size, anonymous_memory_mb=anonymous_memory_mb())
