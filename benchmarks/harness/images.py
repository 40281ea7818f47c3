"""Image files for the benchmarks that read folders."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, images: np.ndarray, count: int) -> Path:
    """Write ``count`` images as PNG files, from the start again where there are fewer, and return the folder."""
    folder.mkdir()
    for index in range(count):
        Image.fromarray(images[index % len(images)]).save(folder / f"{index:06}.png")
    return folder
