"""PyTorch as its guides have it: a `DataLoader` with worker processes that decode with Pillow, then the module."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import serve_folder

from .pillow_folder import decoded
from .torch_module import answer_of

BATCH = 256


class Files(Dataset[torch.Tensor]):
    """The images of a folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(decoded(self._paths[index])))


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    answer = answer_of(task, compiled=False)

    def classify(folder: Path) -> list[int]:
        batches = DataLoader(Files(folder), batch_size=BATCH, num_workers=task.cores)
        return [int(each) for batch in batches for each in answer(batch.numpy()).argmax(axis=1)]

    serve_folder(classify, task, turns)
