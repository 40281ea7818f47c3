"""A hand-written PyTorch program with the aim of `fast`: a small normalized network with the known means for speed.

Whitened patches, batch normalization, label smoothing, alternating flips, random crops, Nesterov SGD with a triangular
schedule and fast biases, as Jordan (2024) describes them, on channels-last memory, at widths and a batch size that suit
two cores. Arguments: a seed, a data set, JSON that may have other epochs, and perhaps `bfloat16`.
"""

import json
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

import cifarnet
from benchmarks.recipes import report
from cifarnet.data import hold_out
from cifarnet.spec import Split

WIDTHS = (48, 128, 128)
EPOCHS, BATCH, PEAK_AT = 10, 500, 0.2
MOMENTUM = 0.85
PER_STEP = BATCH / (1024 * (1 + 1 / (1 - MOMENTUM)))
"""The published rates are for a sum over 1,024 images, without the factor of momentum; here the loss is a mean."""
RATE, BIAS_RATE, DECAY = 11.5 * PER_STEP, 64 * 11.5 * PER_STEP, 0.0153 * PER_STEP
SMOOTHING, TRANSLATION, WHITENED = 0.2, 2, 5000
VALIDATION_FRACTION = 0.1


class Block(nn.Module):
    """Two convolutions, the first of them pooled, each with batch normalization."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(after, momentum=0.4, eps=1e-12),
            nn.GELU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after, momentum=0.4, eps=1e-12),
            nn.GELU(),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight.data[: layer.in_channels])
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.requires_grad = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features at half the size."""
        return self.layers(images)


class Network(nn.Module):
    """Images float32 (n, 3, 32, 32), mean 0 and deviation 1, to logits (n, 10)."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, bias=False)
        self.whiten.weight.requires_grad = False
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        variances, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (axes / torch.sqrt(variances + 5e-4)).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))
        self.blocks = nn.Sequential(*(Block(*widths) for widths in zip((24, *WIDTHS[:-1]), WIDTHS, strict=True)))
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        features = self.blocks(nn.functional.gelu(self.whiten(images)))
        return self.head(features.amax(dim=(2, 3))) / 9


class Images:
    """Normalized images in memory, augmented anew in each epoch."""

    def __init__(self, split: Split, chosen: np.ndarray, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        pixels = torch.from_numpy(np.ascontiguousarray(split.images[chosen])).permute(0, 3, 1, 2).float()
        self.images = ((pixels - mean) / deviation).contiguous(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(split.labels[chosen]).long()
        self._flipped = torch.rand(len(chosen)) < 0.5

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch; the incomplete last one is left out."""
        order = torch.randperm(len(self.images))
        flipped = self._flipped ^ (epoch % 2 == 0)
        for at in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            images = self.images[chosen]
            images = torch.where(flipped[chosen, None, None, None], images.flip(3), images)
            padded = pad(images, (TRANSLATION,) * 4, "reflect")
            top, left = torch.randint(0, 2 * TRANSLATION + 1, (2, len(chosen), 1, 1))
            rows, columns = top + torch.arange(32)[:, None], left + torch.arange(32)
            everywhere = torch.arange(len(chosen))[:, None, None]
            crops = padded.permute(0, 2, 3, 1)[everywhere, rows, columns].permute(0, 3, 1, 2)
            yield crops, self.labels[chosen]


@torch.no_grad()
def accuracy(network: Network, images: Images, *, flip: bool = False) -> float:
    """Return the accuracy; with ``flip`` by test-time augmentation."""
    network.eval()
    hits = 0
    for pixels, labels in zip(images.images.split(250), images.labels.split(250), strict=True):
        logits = network(pixels)
        if flip:
            logits = logits + network(pixels.flip(3))
        hits += int((logits.argmax(1) == labels).sum())
    network.train()
    return hits / len(images.labels)


def main(seed: int, source: str, changed: Mapping[str, int], *, bfloat16: bool) -> None:
    """Train and report each epoch; with ``bfloat16`` under torch's autocast."""
    torch.manual_seed(seed)
    dataset, epochs = cifarnet.open_dataset(source), changed.get("epochs", EPOCHS)
    parts = hold_out(dataset.train, VALIDATION_FRACTION, seed, 10)
    pixels = dataset.train.images[parts.train].reshape(-1, 3).astype(np.float32)
    moments = [torch.from_numpy(each.astype(np.float32))[:, None, None] for each in (pixels.mean(0), pixels.std(0))]
    train, validation = (Images(dataset.train, chosen, *moments) for chosen in (parts.train, parts.validation))
    network = Network(train.images[:WHITENED]).to(memory_format=torch.channels_last)
    trained = [each for each in network.parameters() if each.requires_grad]
    biases, kernels = ([each for each in trained if (each.ndim == 1) == wanted] for wanted in (True, False))
    groups = [
        {"params": kernels, "lr": RATE, "weight_decay": DECAY / RATE},
        {"params": biases, "lr": BIAS_RATE, "weight_decay": DECAY / BIAS_RATE},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    steps = epochs * (len(train.images) // BATCH)
    peak = int(PEAK_AT * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.2 + 0.8 * step / peak if step < peak else max(0.0, (steps - step) / (steps - peak))
    )
    for epoch in range(1, epochs + 1):
        for images, labels in train.batches(epoch):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = network(images)
            cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        report(epoch=epoch, validation_accuracy=accuracy(network, validation))
    test = Images(dataset.test, np.arange(len(dataset.test)), *moments)
    report(test_accuracy=accuracy(network, test))
    report(flip_test_accuracy=accuracy(network, test, flip=True))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), bfloat16="bfloat16" in sys.argv[4:])
