"""Training on a folder of own images: ``python -m benchmarks.own_images BACKEND SEED [SEED ...]``.

Two classes of CIFAR-10, cats and dogs, stand for them: 300 training images of each as PNG files in class folders, and
all their test images. They are trained on by the recipes ``seed`` and ``fast``, and by ``fast`` from the convolutions
of a network that was trained on the eight other classes. Appends to ``results/own_images.jsonl``.
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
WAYS: dict[str, tuple[str, ...]] = {
    "seed": ("--recipe", "seed"),
    "fast": ("--recipe", "fast"),
    "fast, from the other eight classes": ("--from", "others"),
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
    """Train ``fast`` on the other classes, as the run ``others`` below ``runs``, and return the test accuracy."""
    changes = {"seed": seed, "classes": len(dataset.labels)} | ({"epochs": epochs} if epochs else {})
    settings = cifarnet.recipe("fast").changed(changes)
    run = cifarnet.train(dataset, "fast", runs=runs, model_config=settings.model, train_config=settings.train)
    accuracy = float(run.record.metrics.test.accuracy)
    run.path.rename(runs / "others")
    return accuracy


def train_own(way: str, folder: Path, runs: Path, seed: int, options: Sequence[str]) -> Line:
    """Train on the folder by the command line, and return the run's record."""
    chosen = [str(runs / "others") if word == "others" else word for word in WAYS[way]]
    words = ("--data", str(folder), "--runs", str(runs), "--backend", cifarnet.choose_backend(), "--seed", str(seed))
    command = [sys.executable, "-m", "cifarnet", "train", *chosen, *words, *options, "--json"]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def measure(seed: int, dataset: Dataset, images: int = IMAGES, epochs: int | None = None) -> list[Line]:
    """Train in every way and return a line for each; ``images`` per class and ``epochs`` make it a toy."""
    options = ("--epochs", str(epochs)) if epochs else ()
    with tempfile.TemporaryDirectory() as place:
        folder, runs = Path(place) / "photos", Path(place) / "runs"
        write_folder(dataset, folder, images, seed)
        origin = train_others(without_own(dataset), runs, seed, epochs)
        records = {way: train_own(way, folder, runs, seed, options) for way in WAYS}
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
    given = parser.parse_args()
    prepare_process()
    cifarnet.choose_backend(given.backend)
    dataset = cifarnet.load_dataset("cifar10")
    for seed in given.seeds:
        append(PATH, *measure(seed, dataset))
    print(table())


if __name__ == "__main__":
    main()
