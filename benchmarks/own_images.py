"""Training on a folder of own images: ``python -m benchmarks.own_images BACKEND SEED [SEED ...] [--ways WAY ...]``.

Two classes of CIFAR-10, cats and dogs, stand for them: 300 training images of each as PNG files in class folders, and
all their test images. They are trained on by the recipes ``seed`` and ``fast``, and by ``fast`` from the convolutions
of a network that was trained on the eight other classes, and by ``seed`` with settings that were tuned on the folder.
Appends to ``results/own_images.jsonl``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from PIL import Image

import cifarnet
from benchmarks import RESULTS
from benchmarks.harness.records import Line, append, grouped, machine, mean_and_range, table_of
from cifarnet.dataset import Dataset, Split
from cifarnet.system import prepare_process, versions

PATH = RESULTS / "own_images.jsonl"
OWN = ("cat", "dog")
IMAGES = 300
"""Training images of each class."""
TRIALS = 20
"""Trials of `cifarnet tune`, its default."""
ORIGIN, TUNED = "others", "tuned.best.json"
"""Names, below the runs, of the run on the other classes and of the recipe that was tuned."""
WAYS: dict[str, tuple[str, ...]] = {
    "seed": ("--recipe", "seed"),
    f"seed, tuned with {TRIALS} trials": ("--recipe", TUNED),
    "fast": ("--recipe", "fast"),
    "fast, from the other eight classes": ("--from", ORIGIN),
}
"""Options of `cifarnet train`, by the row in the table."""


def write_folder(dataset: Dataset, folder: Path, images: int, seed: int) -> None:
    """Write the images of the two classes as PNG files, ``images`` of each to train on, below ``folder``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for name in OWN:
        label = dataset.labels.index(name)
        chosen = rng.permutation(np.flatnonzero(dataset.train.labels == label))[:images]
        tested = np.flatnonzero(dataset.test.labels == label)
        for part, split, positions in (("train", dataset.train, chosen), ("test", dataset.test, tested)):
            (folder / part / name).mkdir(parents=True)
            for position in positions:
                Image.fromarray(split.images[position]).save(folder / part / name / f"{position:05}.png")


def without_own(dataset: Dataset) -> Dataset:
    """Return the data set of the other classes."""
    kept = [label for label, name in enumerate(dataset.labels) if name not in OWN]

    def only(split: Split) -> Split:
        chosen = np.isin(split.labels, kept)
        return Split(split.images[chosen], np.searchsorted(kept, split.labels[chosen]).astype(split.labels.dtype))

    labels = tuple(dataset.labels[label] for label in kept)
    return replace(dataset, name="eight-classes", labels=labels, train=only(dataset.train), test=only(dataset.test))


def train_others(dataset: Dataset, runs: Path, seed: int, epochs: int | None) -> float:
    """Train ``fast`` on the other classes, as the run ``ORIGIN`` below ``runs``, and return the test accuracy."""
    changes = {"seed": seed, "classes": len(dataset.labels)} | ({"epochs": epochs} if epochs else {})
    settings = cifarnet.recipe("fast").changed(changes)
    run = cifarnet.train(dataset, "fast", runs=runs, model_config=settings.model, train_config=settings.train)
    accuracy = float(run.record.metrics.test.accuracy)
    run.path.rename(runs / ORIGIN)
    return accuracy


def train_own(way: str, folder: Path, runs: Path, seed: int, options: Sequence[str]) -> Line:
    """Train on the folder by the command line, and return the run's record."""
    chosen = [str(runs / word) if word in (ORIGIN, TUNED) else word for word in WAYS[way]]
    words = ("--runs", str(runs), "--seed", str(seed), *options)
    return dict(json.loads(cifarnet_on(folder, "train", *chosen, *words, "--json")))


def cifarnet_on(folder: Path, *words: str) -> str:
    """Run a command of ``cifarnet`` on the folder, and return what it prints."""
    command = [sys.executable, "-m", "cifarnet", *words, "--data", str(folder), "--backend", cifarnet.choose_backend()]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(
    seed: int,
    dataset: Dataset,
    images: int = IMAGES,
    epochs: int | None = None,
    ways: Sequence[str] = tuple(WAYS),
    trials: int = TRIALS,
) -> list[Line]:
    """Train in the ways and return a line for each; few ``images`` of a class, ``epochs`` and ``trials`` make a toy."""
    options = ("--epochs", str(epochs)) if epochs else ()
    with tempfile.TemporaryDirectory() as place:
        folder, runs = Path(place) / "photos", Path(place) / "runs"
        write_folder(dataset, folder, images, seed)
        origin = None
        if any(ORIGIN in WAYS[way] for way in ways):
            origin = train_others(without_own(dataset), runs, seed, epochs)
        if any(TUNED in WAYS[way] for way in ways):
            runs.mkdir(exist_ok=True)
            storage = runs / "tuned.journal"  # the best settings are written beside it
            cifarnet_on(folder, "tune", "--recipe", "seed", "--trials", str(trials), "--storage", str(storage))
        records = {way: train_own(way, folder, runs, seed, options) for way in ways}
    return [
        {
            "way": way,
            "seed": seed,
            "backend": record["backend"],
            "images_per_class": images,
            "origin_accuracy": origin if "--from" in WAYS[way] else None,
            "train": record["train"],
            "test_images": record["data"]["test_images"],
            "test_accuracy": record["metrics"]["test"]["accuracy"],
            "epochs": record["epochs"],
            "seconds": record["elapsed_s"],
            "machine": machine(),
            "versions": versions(),
        }
        for way, record in records.items()
    ]


def table(path: Path = PATH) -> str:
    """Return the stored trainings, one row per way."""
    columns = {
        "recipe": lambda group: group[0]["way"],
        "test accuracy": lambda group: mean_and_range([100 * line["test_accuracy"] for line in group], "{:.1f}%"),
        "seeds": len,
        "epochs": lambda group: f"{statistics.mean(line['epochs'] for line in group):.0f}",
        "seconds": lambda group: f"{statistics.mean(line['seconds'] for line in group):.0f}",
    }
    return table_of(columns, grouped(path, itemgetter("way")).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    prepare_process()
    cifarnet.choose_backend(given.backend)
    dataset = cifarnet.load_dataset("cifar10")
    for seed in given.seeds:
        append(PATH, *measure(seed, dataset, ways=given.ways))
    print(table())


if __name__ == "__main__":
    main()
