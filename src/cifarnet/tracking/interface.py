"""What each adapter offers, and what all of them are told."""

from collections.abc import Mapping
from typing import Any, Protocol

from cifarnet.run import EpochRecord

NAMES = ("tensorboard", "mlflow")
"""Places that a training may be shown in; each has a module of that name, and an extra."""

FIGURES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
}
"""Name of a curve and the column of ``history.csv`` behind it; losses in nats, accuracies as fractions."""


class Tracker(Protocol):
    """One place, opened for one run. What it shows already it does not show twice."""

    def log_epoch(self, row: EpochRecord) -> None:
        """Show a finished epoch, durably, unless it is there already."""

    def log_end(self, record: Mapping[str, Any]) -> None:
        """Show how a session ended, and once the run is finished its test metrics; then let go of the place."""


def figures_of(row: EpochRecord) -> dict[str, float]:
    """Return what is shown of an epoch, by the name of its curve."""
    return {name: float(getattr(row, column)) for name, column in FIGURES.items()}


def final_figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what is shown of the test images, by name: nothing before the run is finished."""
    if record["status"] != "finished":
        return {}
    score = record["metrics"].get("test", {})
    return {f"test/{name}": float(score[name]) for name in ("loss", "accuracy") if name in score}


def settings_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what was trained, as text by name."""
    settings = {**record["model"], **record["train"]}
    about = {name: record[name] for name in ("recipe", "backend")}
    data = {f"data_{name}": record["data"][name] for name in ("name", "fingerprint")}
    return {name: str(value) for name, value in {**about, **data, **settings}.items()}
