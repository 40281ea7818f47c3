"""Hold the contests: one image on one core, batches on all cores, a folder of files on all cores."""

import contextlib
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
from benchmarks.harness.contest import PROJECT, Judge, field_of, take_turns
from benchmarks.harness.records import Sheet
from benchmarks.limit import LIMIT
from cifarnet.system import usable_cores

from .contenders import FROM_ARRAYS, FROM_FILES, TOY, TOY_FILES
from .serving import ANSWERS

LARGEST_DIFFERENCE = 1e-4
"""Of a probability, before a contender's answers are taken for wrong. Measured between correct ones: 3e-6."""
FEWEST_EQUAL = 0.999
"""Fraction of the files whose class has to be cifarnet's: a toss-up may fall either way."""
LATENCY, THROUGHPUT, FOLDER = "one image, one core", "batches of 256, all cores", "a folder of PNG files, all cores"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done."""

    source: str = "cifar10"
    rounds: int = 5
    single_calls: int = 120
    batch_calls: int = 16
    files: int = 10_000
    folder_rounds: int = 3
    judged: int = 100
    arrays: tuple[str, ...] = tuple(contender.name for contender in FROM_ARRAYS)
    folders: tuple[str, ...] = tuple(contender.name for contender in FROM_FILES)
    limit: Mapping[str, Any] = field(default_factory=dict)


TOY_PLAN = Plan(
    source="synthetic",
    rounds=2,
    single_calls=5,
    batch_calls=2,
    files=50,
    folder_rounds=1,
    arrays=TOY,
    folders=TOY_FILES,
    limit={"matrix_sizes": [64], "numpy_alone": True},
)


def measure(plan: Plan, model: Path, sheet: Sheet) -> None:
    """Do what ``plan`` says with the exported file ``model``."""
    cores = usable_cores() or 1
    arrays = [contender for contender in FROM_ARRAYS if contender.name in plan.arrays]
    folders = [contender for contender in FROM_FILES if contender.name in plan.folders]
    contests: list[tuple[str, Any, int, int, Mapping[str, Any], Any]] = [
        (LATENCY, arrays, 1, plan.rounds, {"batch": 1, "calls": plan.single_calls}, judge_probabilities),
        (THROUGHPUT, arrays, cores, plan.rounds, {"batch": 256, "calls": plan.batch_calls}, judge_probabilities),
        (FOLDER, folders, cores, plan.folder_rounds, {}, judge_classes),
    ]
    with prepared(plan, model) as (settings, expected):
        for cell, contenders, threads, rounds, further, judge in contests:
            told = settings | further
            with field_of(
                [*contenders, LIMIT], told, sheet, cores=threads, cell=cell, judge=judge(expected)
            ) as processes:
                take_turns(processes, sheet, rounds=rounds, cell=cell)


@contextlib.contextmanager
def prepared(plan: Plan, model: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield what contenders are told, with the files it names while it lasts, and cifarnet's probabilities."""
    images = cifarnet.open_dataset(plan.source).test.images
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        command = [sys.executable, "-m", "benchmarks.inference.weights", str(model), str(folder)]
        subprocess.run(command, check=True, cwd=PROJECT)
        np.save(folder / "images.npy", images[:4096])
        expected = cifarnet.Classifier(model).probabilities(images[:4096])
        yield (
            {
                "model": str(model),
                "model_config": json.loads((folder / "model.json").read_text()),
                "weights": str(folder / "weights.npz"),
                "images": str(folder / "images.npy"),
                "judged": plan.judged,
                "folder": str(written(folder / "files", images, plan.files)),
                "judged_folder": str(written(folder / "judged", images, plan.judged)),
                **plan.limit,
            },
            expected,
        )


def written(folder: Path, images: np.ndarray, count: int) -> Path:
    """Write ``count`` images as PNG files, from the start again where there are fewer, and return the folder."""
    from PIL import Image

    folder.mkdir()
    for index in range(count):
        Image.fromarray(images[index % len(images)]).save(folder / f"{index:06}.png")
    return folder


def judge_probabilities(expected: np.ndarray) -> Judge:
    """Return what refuses a contender whose probabilities are not the ``expected`` ones."""

    def judge(folder: Path) -> str | None:
        if not (folder / ANSWERS).exists():
            return None  # the matrix product answers nothing
        answers = np.load(folder / ANSWERS)
        difference = float(abs(answers - expected[: len(answers)]).max())
        agrees = difference <= LARGEST_DIFFERENCE  # False for NaN
        return None if agrees else f"a probability differs by {difference:.1e} from cifarnet's"

    return judge


def judge_classes(expected: np.ndarray) -> Judge:
    """Return what refuses a contender that sees other classes, or gives no answer for a file."""

    def judge(folder: Path) -> str | None:
        if not (folder / ANSWERS).exists():
            return None
        classes, wanted = np.load(folder / ANSWERS), expected.argmax(axis=1)
        if len(classes) == 0 or len(classes) > len(wanted):
            return f"{len(classes)} answers"
        equal = float((classes == wanted[: len(classes)]).mean())
        return None if equal >= FEWEST_EQUAL else f"only {equal:.1%} of the files have cifarnet's class"

    return judge
