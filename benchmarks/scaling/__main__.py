"""``python -m benchmarks.scaling [--toy]``; ``KERAS_BACKEND`` chooses the framework of training and export."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks import GOLDEN
from benchmarks.harness.images import write_images
from benchmarks.harness.records import ResultsFile, command_line
from benchmarks.harness.rounds import Implementation, run_rounds, started
from benchmarks.peak import inference_operations
from cifarnet.system import usable_cores

from .table import table

EPOCH, FOLDER, EXPORT = "epoch against training images", "folder against files", "export against model size"
CHUNK = 10_000
"""Images that are drawn and written at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amounts of work."""

    source: str = "cifar10"
    images: tuple[int, ...] = (5_000, 15_000, 50_000, 150_000, 500_000)
    files: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    real_files: int = 1_000
    widths: tuple[float, ...] = (0.5, 1, 2)
    gate_images: int = 2_000
    gate_training_images: int = 300
    rounds: int = 2
    warm_up: bool = True


TOY_PLAN = Plan(source="synthetic", images=(100,), files=(10, 40), real_files=5, widths=(), rounds=1, warm_up=False)


def measure(plan: Plan, results: ResultsFile) -> None:
    """Run the rounds of each series."""
    series = {
        EPOCH: [_workload("epochs", f"{count:,} images", count) for count in plan.images],
        FOLDER: [_workload("folders", f"{count:,} files", count) for count in plan.files],
        EXPORT: _exports(plan),
    }
    with prepared(plan) as settings:
        for cell, workloads in series.items():
            with started(workloads, settings, results, cores=usable_cores() or 1, cell=cell) as workers:
                run_rounds(workers, results, rounds=plan.rounds, cell=cell, warm_up=plan.warm_up)


def _workload(function: str, name: str, work: int, **options: Any) -> Implementation:
    return Implementation(
        name=name,
        program=f"benchmarks.scaling.workloads:{function}",
        group="cifarnet",
        needs=() if function == "folders" else ("keras",),
        options={"work": work} | options,
    )


def _exports(plan: Plan) -> list[Implementation]:
    model, found = cifarnet.recipe("seed").model.to_json(), []
    for width in plan.widths:
        filters = [round(width * filters) for filters in model["filters"]]
        work = inference_operations(model | {"filters": filters})
        found.append(_workload("exports", f"{work / 1e6:,.1f} MFLOP per image", work, filters=filters))
    return found


@contextlib.contextmanager
def prepared(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the settings of all workloads, with their files while it lasts."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        images = cifarnet.load_dataset(plan.source).test.images
        _write_noise(folder / "images.npy", max(plan.images))
        yield {
            "source": plan.source,
            "images": str(folder / "images.npy"),
            "model": str(GOLDEN / "model.onnx"),
            "files": str(write_images(folder / "files", images, plan.real_files)),
            "gate_images": plan.gate_images,
            "gate_training_images": plan.gate_training_images,
        }


def _write_noise(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 32, 32, 3))
    for at in range(0, count, CHUNK):
        part = file[at : at + CHUNK]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    file.flush()


def main() -> None:
    given = command_line("scaling", __doc__).parse_args()
    plan = TOY_PLAN if given.toy else Plan()
    plan = dataclasses.replace(plan, rounds=given.rounds or plan.rounds)
    results = ResultsFile(given.results / "scaling.jsonl", "scaling", dataclasses.asdict(plan))
    measure(plan, results)
    results.close()
    print(table(results.path))


if __name__ == "__main__":
    main()
