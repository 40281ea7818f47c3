"""Let each amount of work take its turns."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cifarnet
from benchmarks.harness.contest import PROJECT, Contender, field_of, take_turns
from benchmarks.harness.records import Sheet
from benchmarks.inference.measuring import written
from benchmarks.limit import inference_operations
from cifarnet.system import usable_cores

HERE = "benchmarks.scaling.contenders"
EPOCH, FOLDER, GATE = "epoch against training images", "folder against files", "export against model size"
CHUNK = 10_000
"""Images that are drawn and written at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done."""

    source: str = "cifar10"
    images: tuple[int, ...] = (5_000, 15_000, 50_000, 150_000, 500_000)
    files: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    real_files: int = 1_000
    widths: tuple[float, ...] = (0.5, 1, 2)
    gate_images: int = 2_000
    gate_training_images: int = 300
    rounds: int = 2
    warm_up: bool = True


TOY_PLAN = Plan(
    source="synthetic",
    images=(100,),
    files=(10, 40),
    real_files=5,
    widths=(),
    rounds=1,
    warm_up=False,
)


def measure(plan: Plan, sheet: Sheet) -> None:
    """Do what ``plan`` says."""
    series = {EPOCH: _epochs(plan), FOLDER: _folders(plan), GATE: _gates(plan)}
    with prepared(plan) as settings:
        for cell, contenders in series.items():
            with field_of(contenders, settings, sheet, cores=usable_cores() or 1, cell=cell) as processes:
                take_turns(processes, sheet, rounds=plan.rounds, cell=cell, warm_up=plan.warm_up)


def _contender(module: str, name: str, work: int, **options: Any) -> Contender:
    needs = () if module == "folders" else ("keras",)
    return Contender(
        name=name, module=f"{HERE}.{module}", group="cifarnet", needs=needs, options={"work": work} | options
    )


def _epochs(plan: Plan) -> list[Contender]:
    return [_contender("epochs", f"{count:,} images", count) for count in plan.images]


def _folders(plan: Plan) -> list[Contender]:
    return [_contender("folders", f"{count:,} files", count) for count in plan.files]


def _gates(plan: Plan) -> list[Contender]:
    model, found = cifarnet.recipe("seed").model.to_json(), []
    for width in plan.widths:
        filters = [round(width * filters) for filters in model["filters"]]
        work = inference_operations(model | {"filters": filters})
        found.append(_contender("gate", f"{work / 1e6:,.1f} MFLOP per image", work, filters=filters))
    return found


@contextlib.contextmanager
def prepared(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what contenders are told, with the files it names while it lasts."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        images = cifarnet.open_dataset(plan.source).test.images
        _write_noise(folder / "images.npy", max(plan.images))
        yield {
            "source": plan.source,
            "images": str(folder / "images.npy"),
            "model": str(PROJECT / "export" / "golden" / "model.onnx"),
            "files": str(written(folder / "files", images, plan.real_files)),
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
