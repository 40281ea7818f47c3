"""``python -m benchmarks.inference [--run runs/latest] [--toy] [--only NAME ...]``."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks import GOLDEN, PROJECT
from benchmarks.harness.images import write_images
from benchmarks.harness.records import ResultsFile, command_line
from benchmarks.harness.rounds import run_rounds, started
from benchmarks.networks import beyond_stock
from benchmarks.peak import PEAK, TOY
from cifarnet.system import usable_cores

from .implementations import BATCH, FROM_ARRAYS, FROM_FILES, TOY_ARRAYS, TOY_FILES
from .table import FOLDER, LATENCY, THROUGHPUT, figure_of, table
from .timing import check_classes, check_probabilities

IMAGES = 39 * BATCH
"""Images that implementations get as an array: the whole batches of CIFAR-10's test images."""
WRITE_WEIGHTS = """
import json, sys, numpy as np, cifarnet
config, weights = cifarnet.import_weights(sys.argv[1])
np.savez(f"{sys.argv[2]}/weights.npz", **weights)
print(json.dumps(config.to_json()))
"""
"""Run in a process of its own, so that this one loads no framework."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amount of work."""

    source: str = "cifar10"
    rounds: int = 5
    single_calls: int = 120
    batch_calls: int = 16
    files: int = 10_000
    folder_rounds: int = 3
    checked_images: int = 100
    """Images whose probabilities or classes are checked, or more to fill a batch."""
    arrays: tuple[str, ...] = tuple(each.name for each in FROM_ARRAYS)
    folders: tuple[str, ...] = tuple(each.name for each in FROM_FILES)
    limit: Mapping[str, Any] = field(default_factory=dict)


TOY_PLAN = Plan(
    source="synthetic",
    rounds=2,
    single_calls=5,
    batch_calls=2,
    files=50,
    folder_rounds=1,
    arrays=TOY_ARRAYS,
    folders=TOY_FILES,
    limit=TOY,
)


def measure(plan: Plan, model: Path, int8_model: Path, results: ResultsFile) -> None:
    """Measure one image on one core, batches on all cores, and a folder of files on all cores."""
    cores = usable_cores() or 1
    arrays = [each for each in FROM_ARRAYS if each.name in plan.arrays]
    folders = [each for each in FROM_FILES if each.name in plan.folders]
    single, batches = {"batch": 1, "calls": plan.single_calls}, {"batch": BATCH, "calls": plan.batch_calls}
    with prepared(plan, model, int8_model) as (settings, expected):
        probabilities, classes = check_probabilities(expected), check_classes(expected)
        for cell, chosen, threads, rounds, further, check in (
            (LATENCY, arrays, 1, plan.rounds, single, probabilities),
            (THROUGHPUT, arrays, cores, plan.rounds, batches, probabilities),
            (FOLDER, folders, cores, plan.folder_rounds, {}, classes),
        ):
            whole = settings | further
            with started([*chosen, PEAK], whole, results, cores=threads, cell=cell, check=check) as workers:
                run_rounds(workers, results, rounds=rounds, cell=cell)


@contextlib.contextmanager
def prepared(plan: Plan, model: Path, int8_model: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield the settings of all implementations, whose files exist within the block, and cifarnet's probabilities."""
    test, classifier = cifarnet.load_dataset(plan.source).test, cifarnet.Classifier(model)
    images = test.images
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        command = [sys.executable, "-c", WRITE_WEIGHTS, str(model), root]
        config = json.loads(subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.PIPE).stdout)
        np.save(folder / "images.npy", images[:IMAGES])
        np.save(folder / "classes.npy", test.labels[:IMAGES])
        yield (
            {
                "model": str(model),
                "int8_model": str(int8_model),
                "labels": classifier.labels,
                "model_config": config,
                "weights": str(folder / "weights.npz"),
                "images": str(folder / "images.npy"),
                "classes": str(folder / "classes.npy"),
                "checked_images": plan.checked_images,
                "folder": str(write_images(folder / "files", images, plan.files)),
                "checked_folder": str(write_images(folder / "checked", images, plan.checked_images)),
                **plan.limit,
            },
            classifier.probabilities(images[:IMAGES]),
        )


def require_stock(model: Path, contract: Mapping[str, Any]) -> None:
    """Exit with one line if the baselines cannot build the network of the file ``model``."""
    found = beyond_stock(contract["model"]) | ({"flip": True} if contract.get("flip") else {})
    if found:
        settings = ", ".join(f"{name} {value}" for name, value in found.items())
        sys.exit(
            f"error: {model} has {settings}, which the baselines cannot build; expected a network such as that of the "
            "recipe `seed`: pass its run by --run (make bench RUN=...)"
        )


def main() -> None:
    parser = command_line("inference", __doc__)
    parser.add_argument("--run", type=Path, default=PROJECT / "runs" / "latest", help="folder with a model.onnx")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[c.name for c in (*FROM_ARRAYS, *FROM_FILES)])
    given = parser.parse_args()
    model = (GOLDEN / "model.onnx" if given.toy else given.run / "model.onnx").absolute()
    if not model.exists():
        parser.error(f"{model} is missing; expected an exported run: cifarnet export --onnx, or give --run")
    plan = TOY_PLAN if given.toy else Plan()
    if given.rounds:
        plan = dataclasses.replace(plan, rounds=given.rounds, folder_rounds=given.rounds)
    if given.only:
        plan = dataclasses.replace(plan, arrays=tuple(given.only), folders=tuple(given.only))
    contract = cifarnet.Classifier(model).contract
    require_stock(model, contract)
    sizes = dataclasses.asdict(plan) | {"model_config": contract["model"]}
    results = ResultsFile(given.results / "inference.jsonl", "inference", sizes)
    measure(plan, model, model if given.toy else model.with_suffix(".int8.onnx"), results)
    results.close()
    figure_of(results.path)
    print(table(results.path))


if __name__ == "__main__":
    main()
