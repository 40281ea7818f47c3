"""Pictures of a run."""

import io
from collections.abc import Sequence
from pathlib import Path

from .run import EpochRecord, write_atomically


def draw_curves(history: Sequence[EpochRecord], best_epoch: int | None, path: Path) -> None:
    """Draw loss and accuracy against the epoch to a PNG at ``path``, the best epoch marked where there is one."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    epochs = [row.epoch for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=150)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [row.train_loss for row in history], marker=".", label="training (dropout on)")
    loss.plot(epochs, [row.validation_loss for row in history], marker=".", label="validation")
    accuracy.plot(epochs, [100 * row.train_accuracy for row in history], marker=".", label="training (dropout on)")
    accuracy.plot(epochs, [100 * row.validation_accuracy for row in history], marker=".", label="validation")
    for axes, title in ((loss, "cross-entropy, nats"), (accuracy, "accuracy, %")):
        if best_epoch is not None:
            axes.axvline(best_epoch, color="0.6", linestyle="--", label=f"best epoch {best_epoch}")
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())
