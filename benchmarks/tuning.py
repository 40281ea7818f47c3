"""Choose what the specification leaves open by validation loss; the test set is never read.

    python -m benchmarks.tuning NAME [NAME ...] --seed 0

trains each named variation of the recipe ``seed`` for the length of its schedule plus one epoch and appends one JSON
line per trial to ``results/tuning.jsonl``. ``python -m benchmarks.tuning --table`` prints what is there.
"""

import argparse
import dataclasses
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cifarnet.backends import choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import hold_out, open_dataset
from cifarnet.run import EpochRecord, Run

RESULTS = Path(__file__).parent / "results" / "tuning.jsonl"

PLAIN: dict[str, Any] = {
    "padding": "same",
    "pixel_range": "signed",
    "initializer": "glorot_normal",
    "dense_units": (512, 256, 128),
    "dropout": 0.5,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "schedule_epochs": 9,
    "floor_fraction": 0.01,
    "warmup_epochs": 0.0,
    "weight_decay": 0.3,
}
"""The point from which each trial takes one step or two."""

TRIALS: dict[str, dict[str, Any]] = {
    "centre": {},
    "decay 0.6": {"weight_decay": 0.6},
    "warm-up, dropout 0.4": {"warmup_epochs": 0.25, "dropout": 0.4},
    "warm-up, dropout 0.3": {"warmup_epochs": 0.25, "dropout": 0.3},
}
"""Variations by name."""


class EpochPrinter:
    """An observer that prints one line per epoch."""

    def on_progress(self, progress: Any) -> None:
        """Say nothing."""

    def on_epoch(self, record: EpochRecord, progress: Any) -> None:
        """Print the figures that decide."""
        print(f"{record.epoch:3} {record.validation_loss:.4f} {record.validation_accuracy:.4f}", flush=True)


def run_trial(name: str, seed: int, source: str = "cifar10") -> dict[str, Any]:
    """Train one variation and return its record."""
    from cifarnet.model import build_model  # after the backend is chosen
    from cifarnet.training import train

    settings = PLAIN | TRIALS[name]
    model_fields = {field.name for field in dataclasses.fields(ModelConfig)}
    model_config = ModelConfig(**{key: value for key, value in settings.items() if key in model_fields})
    train_settings = {key: value for key, value in settings.items() if key not in model_fields}
    train_config = TrainConfig(**train_settings, seed=seed, epochs=settings["schedule_epochs"] + 1)
    split = open_dataset(source).train
    parts = hold_out(split, train_config.validation_fraction, seed, model_config.classes)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(model_config, seed=seed)
        outcome = train(model, split, parts, train_config, Run(Path(folder)), EpochPrinter())
    best = min(outcome.history, key=lambda row: row.validation_loss)
    return {
        "trial": name,
        "settings": settings,
        "seed": seed,
        "best_epoch": best.epoch,
        "validation_loss": best.validation_loss,
        "validation_accuracy": best.validation_accuracy,
        "history": [dataclasses.astuple(row) for row in outcome.history],
        "elapsed_s": round(outcome.elapsed_s, 1),
        "backend": choose(),
        "keras": version("keras"),
        "machine": platform.machine(),
    }


def table() -> str:
    """Return the stored trials as a Markdown table, best mean validation loss first."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    by_trial: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_trial.setdefault(row["trial"], []).append(row)
    lines = ["| trial | seeds | validation loss | validation accuracy | best epoch |", "|---|---|---|---|---|"]
    for name, group in sorted(by_trial.items(), key=lambda item: _mean(item[1], "validation_loss")):
        accuracy, loss = 100 * _mean(group, "validation_accuracy"), _mean(group, "validation_loss")
        epochs = ", ".join(str(row["best_epoch"]) for row in group)
        lines.append(f"| {name} | {len(group)} | {loss:.4f} | {accuracy:.2f} % | {epochs} |")
    return "\n".join(lines)


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def main() -> None:
    """Run the trials named on the command line, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    choose()
    for name in arguments.trials:
        record = run_trial(name, arguments.seed)
        with RESULTS.open("a") as file:
            file.write(json.dumps(record) + "\n")
    if arguments.table:
        print(table())


if __name__ == "__main__":
    main()
