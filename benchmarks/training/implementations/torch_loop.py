"""A hand-written PyTorch loop: channels-last memory, fused AdamW, images kept as uint8, eager or `torch.compile`."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from benchmarks.harness.worker import Rounds, Task
from benchmarks.networks.torch_stock import Network
from benchmarks.training.workload import Epoch, Sums, Workload, train_in_rounds


def run(task: Task, rounds: Rounds) -> None:
    workload = Workload(task)
    train_in_rounds(workload, TorchTrainer(workload, compiled=task.options.get("compiled", False)), rounds, task.folder)


class TorchTrainer:
    """The network, its optimizer and the images."""

    def __init__(self, workload: Workload, *, compiled: bool) -> None:
        torch.manual_seed(workload.config["seed"])
        self._workload, self._network = workload, Network(workload.model)
        self._images, self._labels = torch.from_numpy(workload.images), torch.from_numpy(workload.labels).long()
        self._validation_images = torch.from_numpy(workload.validation_images)
        self._validation_labels = torch.from_numpy(workload.validation_labels).long()
        layers = self._network.layers()
        kernels, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        groups = [
            {"params": kernels, "weight_decay": workload.config["weight_decay"]},
            {"params": biases, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, eps=1e-7, fused=True)
        self._measure = torch.compile(self._measured, dynamic=False) if compiled else self._measured

    def _measured(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean loss and the number of hits."""
        logits = self._network(images)
        return cross_entropy(logits, labels), (logits.detach().argmax(1) == labels).sum()

    def train_epoch(self, epoch: Epoch) -> Sums:
        self._network.train()
        loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        sizes = epoch.weights.sum(axis=1).astype(int)
        for row, size, rate in zip(torch.from_numpy(epoch.indices), sizes.tolist(), epoch.rates.tolist(), strict=True):
            chosen = row[:size]
            loss, hits = self._measure(self._images.index_select(0, chosen), self._labels.index_select(0, chosen))
            loss.backward()
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            loss_sum += loss.detach() * size
            correct += hits
        return Sums(loss_sum.item(), correct.item())

    @torch.no_grad()
    def validate(self) -> Sums:
        self._network.eval()
        sums = [0.0, 0]
        for part in self._workload.validation_batches():
            labels = self._validation_labels[part]
            loss, hits = self._measure(self._validation_images[part], labels)
            sums = [sums[0] + loss.item() * len(labels), sums[1] + int(hits)]
        return Sums(*sums)

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        return {name: tensor.numpy().copy() for name, tensor in self._network.state_dict().items()}
