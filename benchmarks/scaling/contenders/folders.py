"""`Classifier.stream` over so many files, all of which are links to a few real ones."""

from pathlib import Path

import cifarnet
from benchmarks.harness.turns import Task, Turns

from .epochs import anonymous_memory_mb


def contend(task: Task, turns: Turns) -> None:
    """Classify the folder in each turn."""
    classifier, folder = cifarnet.Classifier(task.settings["model"]), task.folder / "files"
    folder.mkdir()
    real = sorted(Path(task.settings["files"]).iterdir())
    for index in range(task.options["work"]):
        (folder / f"{index:07}.png").hardlink_to(real[index % len(real)])
    turns.ready()
    while True:
        turns.wait()
        found = sum(outcome.prediction is not None for outcome in classifier.stream(folder))
        seconds = turns.elapsed()
        assert found == task.options["work"]
        turns.done(seconds=seconds, anonymous_memory_mb=anonymous_memory_mb())
