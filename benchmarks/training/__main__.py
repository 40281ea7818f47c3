"""``python -m benchmarks.training [--toy] [--to-accuracy 0.7] [--batches 30 128] [--only "cifarnet on jax" ...]``."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.records import Results, ResultsFile, command_line
from benchmarks.harness.rounds import Worker, run_round, run_rounds, started
from benchmarks.peak import PEAK, TOY
from cifarnet.data import hold_out
from cifarnet.system import usable_cores

from .implementations import FEWER, IMPLEMENTATIONS, TOY_NAMES
from .table import fastest, figure_of, table

MOST_EPOCHS = 9
"""Epochs to reach an accuracy: after these the schedule of the learning rate is over."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amount of work."""

    source: str = "cifar10"
    per_class: int = 900
    """Images of each class in the epoch of a round, validation included; 0 for all."""
    validation_fraction: float = 0.3
    batches: tuple[int, ...] = (30, 128, 512)
    rounds: int = 3
    fewer_rounds: int = 2
    """Rounds at every batch size but the first."""
    to_accuracy: float | None = None
    contenders: tuple[str, ...] = tuple(each.name for each in IMPLEMENTATIONS)
    limit: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    """Differences from the recipe's network."""


TOY_PLAN = Plan(
    source="synthetic",
    per_class=15,
    batches=(30,),
    rounds=1,
    contenders=TOY_NAMES,
    limit=TOY,
    model={"filters": [4, 4, 4], "dense_units": [8]},
)


def measure(plan: Plan, results: ResultsFile) -> None:
    """Run the rounds at each batch size, then those to an accuracy."""
    for index, batch_size in enumerate(plan.batches):
        names = plan.contenders if index == 0 else [name for name in plan.contenders if name in FEWER]
        rounds, cell = (plan.rounds if index == 0 else plan.fewer_rounds), f"batch {batch_size}"
        with _workers(plan, batch_size, names, results, cell) as workers:
            run_rounds(workers, results, rounds=rounds, cell=cell)
    if plan.to_accuracy:
        names = fastest(Results.read(results.path), f"batch {plan.batches[0]}")
        whole, cell = dataclasses.replace(plan, per_class=0), f"to {plan.to_accuracy:.0%}"
        with _workers(whole, plan.batches[0], names, results, cell) as workers:
            _train_to(plan.to_accuracy, workers, results, cell)


@contextlib.contextmanager
def _workers(
    plan: Plan, batch_size: int, names: Sequence[str], results: ResultsFile, cell: str
) -> Iterator[list[Worker]]:
    chosen = [each for each in IMPLEMENTATIONS if each.name in names]
    chosen += [PEAK] if cell.startswith("batch ") else []
    with (
        prepared(plan, batch_size) as settings,
        started(chosen, settings, results, cores=usable_cores() or 1, cell=cell) as workers,
    ):
        yield workers


@contextlib.contextmanager
def prepared(plan: Plan, batch_size: int) -> Iterator[dict[str, Any]]:
    """Yield the settings of all implementations, with the images in files while it lasts."""
    recipe = cifarnet.recipe("seed")
    model = recipe.model.to_json() | dict(plan.model)
    changes = {"batch_size": batch_size, "validation_fraction": plan.validation_fraction}
    train = dataclasses.replace(recipe.train, **changes, epochs=10_000, patience=10_000)
    split = cifarnet.load_dataset(plan.source).train
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
    """Return the positions of the first ``per_class`` images of each class, in the order of the dataset; all for 0."""
    if not per_class:
        return np.arange(len(labels))
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]))


def _train_to(accuracy: float, workers: list[Worker], results: ResultsFile, cell: str) -> None:
    """Train each for an epoch per round, the first and its compilation included, until it is accurate enough."""
    for _ in range(MOST_EPOCHS):
        for worker in list(workers):
            sample = run_round(worker, results, cell=cell)
            if sample is None or sample["validation_accuracy"] >= accuracy:
                workers.remove(worker)
                worker.close()


def main() -> None:
    parser = command_line("training", __doc__)
    parser.add_argument("--batches", type=int, nargs="+", metavar="N")
    parser.add_argument("--to-accuracy", type=float, metavar="FRACTION")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in IMPLEMENTATIONS])
    given = parser.parse_args()
    plan = TOY_PLAN if given.toy else Plan()
    plan = dataclasses.replace(
        plan,
        batches=tuple(given.batches or plan.batches),
        rounds=given.rounds or plan.rounds,
        to_accuracy=given.to_accuracy,
        contenders=tuple(given.only or plan.contenders),
    )
    model = cifarnet.recipe("seed").model.to_json() | dict(plan.model)
    results = ResultsFile(given.results / "training.jsonl", "training", dataclasses.asdict(plan) | {"model": model})
    measure(plan, results)
    results.close()
    figure_of(results.path)
    print(table(results.path))


if __name__ == "__main__":
    main()
