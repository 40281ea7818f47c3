"""Small folders of class folders, to train on."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_photos(folder: Path, *, train: int, test: int, side: int = 32) -> Path:
    """Write so many images of each of three classes: noise of three colors, since the patterns of ``synthetic`` tie."""
    rng = np.random.default_rng(0)
    for color, label in enumerate(("red", "green", "blue")):
        for part, count in (("train", train), ("test", test)):
            (folder / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 200, (side, side, 3), np.uint8)
                pixels[..., color] += 55
                Image.fromarray(pixels).save(folder / part / label / f"{index}.png")
    return folder


def make_noise(folder: Path, seed: int = 0, *, count: int = 15, labels: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write ``count`` images of noise of each class, all different."""
    rng = np.random.default_rng(seed)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / label / f"{index}.png")
    return folder
