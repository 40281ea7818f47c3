"""Make the classifier that comes with the package: ``python -m benchmarks.pretrained [RUN]``.

Trains it on TensorFlow, or takes the finished RUN of the same settings; then exports it, and copies the model, the
record of the run and the digests of its training images into the package.
"""

import shutil
import sys
from pathlib import Path

import cifarnet
from cifarnet.pretrained import FOLDER
from cifarnet.recipes import Recipe, recipe
from cifarnet.run.folder import RECORD, SEEN
from cifarnet.system import prepare_process

SETTINGS = {"filters": (64, 112, 112), "cutout": 8, "epochs": 40, "patience": 40}
"""Changes to ``strong``: a network of less than 3 MB."""
MAX_BYTES = 3_000_000


class Printed(cifarnet.Observer):
    """Prints each epoch."""

    def on_epoch(self, record: object, progress: object) -> None:
        """Print the epoch's row of the history."""
        print(record, file=sys.stderr)


def train(settings: Recipe) -> cifarnet.Run:
    """Train on CIFAR-10 and return the run."""
    dataset = cifarnet.load_dataset("cifar10")
    configs = {"model_config": settings.model, "train_config": settings.train}
    return cifarnet.train(dataset, settings.name, observer=Printed(), **configs)


def main(run: cifarnet.Run | None = None) -> None:
    """Make the files of the package from ``run``, by default a new one."""
    prepare_process()
    cifarnet.choose_backend("tensorflow")
    settings = recipe("strong").changed(SETTINGS)
    run = run or train(settings)
    if run.record.settings != settings or run.record.status != "finished":
        sys.exit(f"{run} has other settings or has not finished")
    exported = cifarnet.export_run(run)
    if exported.size_bytes > MAX_BYTES:
        sys.exit(f"{exported.path} has {exported.size_bytes:,} bytes, more than {MAX_BYTES:,}")
    for path in (exported.path, run.path / RECORD, run.path / SEEN):
        shutil.copyfile(path, FOLDER / path.name)
    print(f"{exported.size_bytes:,} bytes, sha256 {exported.sha256}, {run.record.metrics.test}")


if __name__ == "__main__":
    main(*(cifarnet.Run(Path(name)) for name in sys.argv[1:2]))
