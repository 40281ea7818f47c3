"""Learning from few images: ``python -m benchmarks.own_images BACKEND SEED [SEED ...] [--images N ...]``.

PNG files of CIFAR-10 stand for a folder of your own images: 50, 300 or 1,000 training images of each class, of two
classes, cats and dogs, or of all ten, and all their test images. The recipes ``seed`` and ``fast`` are trained on
it from scratch, and ``seed`` with settings that were tuned on it. On two classes, ``fast`` also starts from the
convolutions of a network that was trained on the eight other classes: it is fine-tuned, or its convolutions stay frozen
and a logistic regression is fitted to their features. Appends to ``results/own_images.jsonl``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import cifarnet
from benchmarks import RESULTS
from benchmarks.harness.records import Line, append, grouped, machine, markdown, mean_and_range
from cifarnet.dataset import Dataset, Split
from cifarnet.system import prepare_process, versions

PATH = RESULTS / "own_images.jsonl"
TWO = ("cat", "dog")
"""The two classes."""
IMAGES = (50, 300, 1000)
"""Training images of each class."""
TRIALS = 20
"""Trials of `cifarnet tune`, its default."""
ORIGIN, TUNED = "others", "tuned.best.json"
"""Names, below the runs, of the run on the other classes and of the recipe that was tuned."""
FROZEN = "fast on the other eight classes, convolutions frozen, logistic regression"
WAYS: dict[str, tuple[str, ...]] = {
    "seed": ("--recipe", "seed"),
    f"seed, tuned with {TRIALS} trials": ("--recipe", TUNED),
    "fast": ("--recipe", "fast"),
    "fast, from the other eight classes": ("--from", ORIGIN),
    FROZEN: (ORIGIN,),
}
"""Options of `cifarnet train`, by the row in the table; not for ``FROZEN``, which is not trained by the command."""
TWO_CLASSES_ONLY = tuple(way for way, words in WAYS.items() if ORIGIN in words)


def write_folder(dataset: Dataset, folder: Path, images: int, seed: int) -> None:
    """Write the images as PNG files in class folders, ``images`` of each class to train on, below ``folder``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for label, name in enumerate(dataset.labels):
        chosen = rng.permutation(np.flatnonzero(dataset.train.labels == label))[:images]
        tested = np.flatnonzero(dataset.test.labels == label)
        for part, split, positions in (("train", dataset.train, chosen), ("test", dataset.test, tested)):
            (folder / part / name).mkdir(parents=True)
            for position in positions:
                Image.fromarray(split.images[position]).save(folder / part / name / f"{position:05}.png")


def of_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return the images of the named classes."""
    kept = [dataset.labels.index(name) for name in names]

    def only(split: Split) -> Split:
        chosen = np.isin(split.labels, kept)
        return Split(split.images[chosen], np.searchsorted(kept, split.labels[chosen]).astype(split.labels.dtype))

    name = f"{len(names)}-classes"
    return replace(dataset, name=name, labels=tuple(names), train=only(dataset.train), test=only(dataset.test))


def train_others(dataset: Dataset, runs: Path, seed: int, epochs: int | None = None) -> Path:
    """Train ``fast`` on all classes but the two, and return the folder of the run below ``runs``."""
    others = of_classes(dataset, [name for name in dataset.labels if name not in TWO])
    changes = {"seed": seed, "classes": len(others.labels)} | ({"epochs": epochs} if epochs else {})
    settings = cifarnet.recipe("fast").changed(changes)
    return cifarnet.train(others, "fast", runs=runs, model_config=settings.model, train_config=settings.train).path


def train(folder: Path, *words: str) -> Line:
    """Train on the folder by the command line, with options ``words``, and return the results that are stored."""
    record = json.loads(cifarnet_on(folder, "train", *words, "--json"))
    return {
        "train": record["train"],
        "test_images": record["data"]["test_images"],
        "test_accuracy": record["metrics"]["test"]["accuracy"],
        "epochs": record["epochs"],
        "seconds": record["elapsed_s"],
    }


def cifarnet_on(folder: Path, *words: str) -> str:
    """Run a command of ``cifarnet`` on the folder, and return what it prints."""
    command = [sys.executable, "-m", "cifarnet", *words, "--data", str(folder), "--backend", cifarnet.choose_backend()]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def fit_frozen(folder: Path, origin: cifarnet.Run) -> Line:
    """Fit a logistic regression to the features of a trained network's last block, and return its results."""
    import keras
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    began = time.monotonic()
    dataset, model = cifarnet.load_dataset(str(folder)), origin.load_model()
    extract = keras.Model(model.inputs[0], model.get_layer("global_pool").output)
    train, test = (extract.predict(split.images, verbose=0) for split in (dataset.train, dataset.test))
    classifier = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=np.logspace(-4, 2, 7), max_iter=1000))
    accuracy = classifier.fit(train, dataset.train.labels).score(test, dataset.test.labels)
    seconds = round(time.monotonic() - began, 1)
    return {"test_images": len(dataset.test), "test_accuracy": float(accuracy), "seconds": seconds}


def measure(
    seed: int,
    dataset: Dataset,
    images: int,
    epochs: int | None = None,
    ways: Sequence[str] = tuple(WAYS),
    trials: int = TRIALS,
    origin: Path | None = None,
) -> list[Line]:
    """Train on ``images`` of each class in each of the ``ways``, and return a line for each.

    ``epochs`` replaces those of the recipes, and ``origin`` is the run on the other classes.
    """
    options = ("--epochs", str(epochs)) if epochs else ()
    with tempfile.TemporaryDirectory() as place:
        folder, runs = Path(place) / "photos", Path(place) / "runs"
        write_folder(dataset, folder, images, seed)
        runs.mkdir()
        if origin is not None:
            (runs / ORIGIN).symlink_to(origin)
        if any(TUNED in WAYS[way] for way in ways):
            storage = runs / "tuned.journal"  # the best settings are written beside it
            cifarnet_on(folder, "tune", "--recipe", "seed", "--trials", str(trials), "--storage", str(storage))
        found = {way: _train(way, folder, runs, seed, options) for way in ways}
    head = {"seed": seed, "backend": cifarnet.choose_backend(), "classes": len(dataset.labels)}
    head |= {"images_per_class": images, "machine": machine(), "versions": versions()}
    return [{"way": way} | head | each for way, each in found.items()]


def _train(way: str, folder: Path, runs: Path, seed: int, options: Sequence[str]) -> Line:
    if way == FROZEN:
        return fit_frozen(folder, cifarnet.find_run(runs, ORIGIN))
    chosen = [str(runs / word) if word in (ORIGIN, TUNED) else word for word in WAYS[way]]
    return train(folder, *chosen, "--runs", str(runs), "--seed", str(seed), *options)


def table(path: Path = PATH) -> str:
    """Return the test accuracy by images per class, one row per way and number of classes."""
    groups = grouped(path, lambda line: (line.get("classes", len(TWO)), line["way"], line["images_per_class"]))
    amounts = sorted({amount for _, _, amount in groups})
    names = sorted({(classes, list(WAYS).index(way)) for classes, way, _ in groups})
    rows = [
        [classes, way, *(_cell(groups.get((classes, way, amount), [])) for amount in amounts)]
        for classes, way in ((classes, list(WAYS)[index]) for classes, index in names)
    ]
    return markdown(["classes", "recipe", *(f"{amount:,} images per class" for amount in amounts)], rows)


def _cell(lines: Sequence[Line]) -> str:
    if not lines:
        return "—"
    seeds = "" if len(lines) > 1 else ", one seed"
    return mean_and_range([100 * line["test_accuracy"] for line in lines], "{:.1f}%") + seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--images", nargs="+", type=int, default=IMAGES)
    parser.add_argument("--classes", nargs="+", type=int, choices=(2, 10), default=(2, 10))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    prepare_process()
    cifarnet.choose_backend(given.backend)
    dataset = cifarnet.load_dataset("cifar10")
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as runs:
            needs_origin = 2 in given.classes and set(given.ways) & set(TWO_CLASSES_ONLY)
            origin = train_others(dataset, Path(runs), seed) if needs_origin else None
            for classes in given.classes:
                chosen = of_classes(dataset, TWO) if classes == 2 else dataset
                ways = [way for way in given.ways if classes == 2 or way not in TWO_CLASSES_ONLY]
                for images in given.images:
                    append(PATH, *measure(seed, chosen, images, ways=ways, origin=origin))
    print(table())


if __name__ == "__main__":
    main()
