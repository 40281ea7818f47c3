"""Hold the contest: prepare the images, let everyone train by turns, and write down what came."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.contest import Contender, Process, field_of, take_turns, turn
from benchmarks.harness.records import Results, Sheet
from benchmarks.limit import LIMIT
from cifarnet.data import hold_out
from cifarnet.system import usable_cores

from .contenders import CONTENDERS, TOY

FEWER = (
    *("cifarnet on jax", "cifarnet on torch", "cifarnet on tensorflow"),
    *("Keras fit on tensorflow, 10 steps per execution", "PyTorch loop", "PyTorch loop, torch.compile"),
    *("JAX loop", "JAX loop, first layer by patches", "tf.function loop"),
)
"""Who takes part at the larger batch sizes, where the overhead of a step matters less."""
MOST_EPOCHS = 9
"""After which a contender that has not reached the accuracy is given up: the schedule of the learning rate is over."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done."""

    source: str = "cifar10"
    per_class: int = 900
    """Images of each class that a turn's epoch has, validation included; 0 for all."""
    validation_fraction: float = 0.3
    batches: tuple[int, ...] = (30, 128, 512)
    rounds: int = 3
    fewer_rounds: int = 2
    """At every batch size but the first."""
    to_accuracy: float | None = None
    contenders: tuple[str, ...] = tuple(contender.name for contender in CONTENDERS)
    limit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What differs from the recipe's network."""


TOY_PLAN = Plan(
    source="synthetic",
    per_class=15,
    batches=(30,),
    rounds=1,
    contenders=TOY,
    limit={"matrix_sizes": [64], "numpy_alone": True},
    model={"filters": [4, 4, 4], "dense_units": [8]},
)


def measure(plan: Plan, sheet: Sheet) -> None:
    """Do what ``plan`` says."""
    cores = usable_cores() or 1
    for index, batch_size in enumerate(plan.batches):
        names = plan.contenders if index == 0 else [name for name in plan.contenders if name in FEWER]
        rounds, cell = (plan.rounds if index == 0 else plan.fewer_rounds), f"batch {batch_size}"
        with prepared(plan, batch_size) as settings, _field(names, settings, sheet, cores, cell) as processes:
            take_turns(processes, sheet, rounds=rounds, cell=cell)
    if plan.to_accuracy:
        names = fastest(Results.read(sheet.path), f"batch {plan.batches[0]}")
        whole = dataclasses.replace(plan, per_class=0)
        cell = f"to {plan.to_accuracy:.0%}"
        with prepared(whole, plan.batches[0]) as settings, _field(names, settings, sheet, cores, cell) as processes:
            _train_to(plan.to_accuracy, processes, sheet, cell)


def _field(
    names: Sequence[str], settings: Mapping[str, Any], sheet: Sheet, cores: int, cell: str
) -> "contextlib.AbstractContextManager[list[Process]]":
    chosen: list[Contender] = [contender for contender in CONTENDERS if contender.name in names]
    chosen += [LIMIT] if not cell.startswith("to ") else []
    return field_of(chosen, settings, sheet, cores=cores, cell=cell)


def fastest(results: Results, cell: str, others: int = 2) -> list[str]:
    """Return every contender of cifarnet and the fastest of the others, by images per second end to end."""
    rates = {name: rate for name in results.contenders(cell) if (rate := end_to_end(results, cell, name))}
    groups = {name: line["group"] for name, line in results.contenders(cell).items()}
    ours = [name for name in rates if groups[name] == "cifarnet"]
    theirs = sorted((name for name in rates if groups[name] in ("Keras", "loop")), key=lambda name: -rates[name])
    return ours + theirs[:others]


def end_to_end(results: Results, cell: str, contender: str) -> float | None:
    """Return the median of the images per second over whole turns: order, training, validation, callbacks."""
    seconds = results.median(cell, contender, "seconds")
    images = results.median(cell, contender, "images")
    return images / seconds if images and seconds else None


@contextlib.contextmanager
def prepared(plan: Plan, batch_size: int) -> Iterator[dict[str, Any]]:
    """Yield what contenders are told, with the images in files while it lasts."""
    recipe = cifarnet.recipe("seed")
    model = recipe.model.to_json() | dict(plan.model)
    train = dataclasses.replace(
        recipe.train,
        batch_size=batch_size,
        validation_fraction=plan.validation_fraction,
        epochs=10_000,
        patience=10_000,
    )
    split = cifarnet.open_dataset(plan.source).train
    chosen = _chosen(split.labels, plan.per_class)
    part = dataclasses.replace(split, images=split.images[chosen], labels=split.labels[chosen])
    parts = hold_out(part, train.validation_fraction, train.seed, model["classes"])
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        np.save(folder / "images.npy", part.images)
        np.save(folder / "labels.npy", part.labels)
        np.savez(folder / "parts.npz", train=parts.train, validation=parts.validation)
        yield {
            "source": plan.source,
            "images": str(folder / "images.npy"),
            "labels": str(folder / "labels.npy"),
            "parts": str(folder / "parts.npz"),
            "model": model,
            "train": train.to_json(),
            **plan.limit,
        }


def _chosen(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Return the positions of the first so many images of each class, in the order of the data set; all for 0."""
    if not per_class:
        return np.arange(len(labels))
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]))


def _train_to(accuracy: float, processes: list[Process], sheet: Sheet, cell: str) -> None:
    """Let each train an epoch per turn, the first one and its compilation included, until it is accurate enough."""
    for _ in range(MOST_EPOCHS):
        for process in list(processes):
            sample = turn(process, sheet, kind="turn", cell=cell)
            if sample is None or sample["validation_accuracy"] >= accuracy:
                processes.remove(process)
                process.close()
