"""Choose what the specification leaves open by validation loss; the test set is never read.

    python -m benchmarks.tuning NAME [NAME ...] --seed 0

trains each named variation of the centre for the length of its schedule plus one epoch and appends one JSON
line per trial to ``results/tuning.jsonl``. ``python -m benchmarks.tuning --table`` prints what is there.
"""

import argparse
import dataclasses
import statistics
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.harness.records import append, grouped, rows
from cifarnet.backends import choose
from cifarnet.data import hold_out, open_dataset
from cifarnet.job import Job
from cifarnet.recipes import recipe
from cifarnet.run_folder import EpochRecord, Run
from cifarnet.system import processor, versions

RESULTS = Path(__file__).parent / "results" / "tuning.jsonl"

CENTRE: dict[str, Any] = {"initializer": "glorot_normal", "learning_rate": 1e-3}
"""What the point around which was searched has other than the published recipe, to which the search led."""

TRIALS: dict[str, dict[str, Any]] = {
    "centre": {},
    "valid padding": {"padding": "valid"},
    "dense 256, 128, 64": {"dense_units": (256, 128, 64)},
    "initializer he_normal": {"initializer": "he_normal"},
    "pixels 0 to 1": {"pixel_range": "unit"},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.4": {"dropout": 0.4},
    "dropout 0.5, no warm-up": {"dropout": 0.5, "warmup_epochs": 0.0},
    "dropout 0.5, no warm-up, decay 0.6": {"dropout": 0.5, "warmup_epochs": 0.0, "weight_decay": 0.6},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "initializer he_normal, learning rate 2e-3": {"initializer": "he_normal", "learning_rate": 2e-3},
    "constant learning rate": {"schedule": "constant"},
    "decay 0.1": {"weight_decay": 0.1},
}
"""What each trial changes in the centre, by name."""


class EpochPrinter:
    """An observer that prints one line per epoch."""

    def on_progress(self, progress: Any) -> None:
        """Say nothing."""

    def on_epoch(self, record: EpochRecord, progress: Any) -> None:
        """Print the figures that decide."""
        print(f"{record.epoch:3} {record.validation_loss:.4f} {record.validation_accuracy:.4f}", flush=True)


def run_trial(name: str, seed: int, source: str = "cifar10") -> dict[str, Any]:
    """Train one variation and return its record."""
    from cifarnet.model.network import build_model  # after the backend is chosen
    from cifarnet.training.loop import train

    published, changes = recipe("seed"), CENTRE | TRIALS[name]
    changed = published.changed(changes | {"seed": seed})
    model_config, train_config = changed.model, changed.train
    train_config = dataclasses.replace(train_config, epochs=train_config.schedule_epochs + 1)
    split = open_dataset(source).train
    parts = hold_out(split, train_config.validation_fraction, seed, model_config.classes)
    job = Job(recipe="seed", model=model_config, train=train_config)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(model_config, seed=seed)
        outcome = train(model, split, parts, job, Run(Path(folder)), EpochPrinter())
    best = min(outcome.history, key=lambda row: row.validation_loss)
    return {
        "trial": name,
        "settings": model_config.to_json() | train_config.to_json(),
        "seed": seed,
        "best_epoch": best.epoch,
        "validation_loss": best.validation_loss,
        "validation_accuracy": best.validation_accuracy,
        "history": [dataclasses.astuple(row) for row in outcome.history],
        "elapsed_s": round(outcome.elapsed_s, 1),
        "backend": choose(),
        "versions": versions(),
        "processor": processor(),
    }


def table() -> str:
    """Return the stored trials as a Markdown table, best mean validation loss first."""
    found = grouped(RESULTS, itemgetter("trial"))
    losses = {name: statistics.mean(row["validation_loss"] for row in group) for name, group in found.items()}
    cells = [
        [
            name,
            str(len(found[name])),
            f"{losses[name]:.4f}",
            f"{100 * statistics.mean(row['validation_accuracy'] for row in found[name]):.2f} %",
            ", ".join(str(row["best_epoch"]) for row in found[name]),
        ]
        for name in sorted(found, key=losses.__getitem__)
    ]
    return rows(("trial", "seeds", "validation loss", "validation accuracy", "best epoch"), cells)


def main() -> None:
    """Run the trials named on the command line, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    choose()
    for name in arguments.trials:
        append(RESULTS, run_trial(name, arguments.seed))
    if arguments.table:
        print(table())


if __name__ == "__main__":
    main()
