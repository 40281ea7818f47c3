"""Pillow and onnxruntime by hand: file by file, or decoded by threads and classified in batches."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve_folder

from .onnxruntime_file import answer_of

BATCH = 256


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    answer = answer_of(task.settings["model"], task.cores)

    def one_by_one(folder: Path) -> list[int]:
        return [int(answer(decoded(path)[None]).argmax()) for path in sorted(folder.iterdir())]

    def in_batches(folder: Path) -> list[int]:
        return [int(each) for batch in _batches(folder, task.cores) for each in answer(batch).argmax(axis=1)]

    serve_folder(in_batches if task.options["threads"] else one_by_one, task, turns)


def decoded(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of one file, uint8 (h, w, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _batches(folder: Path, threads: int) -> Iterator[NDArray[np.uint8]]:
    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor(threads) as pool:
        images = pool.map(decoded, paths, chunksize=16)  # all are on their way while the model runs
        for at in range(0, len(paths), BATCH):
            yield np.stack([next(images) for _ in range(min(BATCH, len(paths) - at))])
