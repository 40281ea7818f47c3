"""What each part of the recipe `fast` is worth; the test images play no part.

    python -m benchmarks.ablation BACKEND SEED NAME [NAME ...] [--epochs N]

trains the recipe with the named parts taken out or changed and appends one JSON line per trial to
``results/ablation.jsonl``. ``python -m benchmarks.ablation --table`` prints what is there.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cifarnet
from benchmarks.harness.records import RESULTS, Line, append, cores, grouped, machine, mean_and_range, rows, shown
from benchmarks.tuning import EpochPrinter
from cifarnet.contract import Split
from cifarnet.data import hold_out
from cifarnet.evaluation.scoring import evaluate, flip_averaged
from cifarnet.system import versions

PATH = RESULTS / "ablation.jsonl"
WHOLE = "the recipe"
EPOCHS = 6
"""Of a trial by default, with the whole schedule in them: three fifths of the recipe's, for the sake of many trials."""
AVERAGING = "averaging"
"""Not a setting of a recipe: see ``averaged_weights``."""
TRIALS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "no whitening": {"whitening": 0},
    "one convolution per block, twice as wide": {"convolutions_per_block": 1, "filters": (96, 256, 256)},
    "float32": {"precision": "float32"},
    "the whole batch normalised at once": {"ghost_batch": 512},
    "maximum instead of average": {"global_pooling": "max"},
    "dense layers of 256 and 128 instead": {"global_pooling": "none", "dense_units": (256, 128), "dropout": 0.3},
    "no label smoothing": {"label_smoothing": 0.0},
    "no shifts": {"translation": 0},
    "no flips": {"flip": "none"},
    "random flips": {"flip": "random"},
    "cosine schedule": {"schedule": "cosine"},
    "Nesterov SGD, learning rate 0.5": {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "weight_decay": 5e-3,
        "warmup_epochs": 1.0,
    },
    "weights averaged every 5 steps": {AVERAGING: 5},
}
"""What each trial changes in the recipe, by name, and with it what has to change along or makes up for the time."""


@contextmanager
def averaged_weights(steps: int) -> Iterator[None]:
    """Let Muon replace the weights by their moving average every ``steps`` steps; 0 for never.

    The weights of ``steps`` before count for half in it, as they do in Lookahead (Zhang et al. 2019).
    """
    from cifarnet.training.optimizer import OPTIMIZERS, Muon

    if steps:
        averaging = {"use_ema": True, "ema_momentum": 0.5 ** (1 / steps), "ema_overwrite_frequency": steps}
        OPTIMIZERS["muon"] = partial(Muon, **averaging)
    try:
        yield
    finally:
        OPTIMIZERS["muon"] = Muon


def run_trial(name: str, seed: int, source: str = "cifar10", **smaller: Any) -> dict[str, Any]:
    """Train one variation and return its record; ``smaller`` are settings that make it a toy."""
    from cifarnet.model.network import predictor  # after the backend is chosen
    from cifarnet.training.train import load_best

    changes = TRIALS[name] | smaller
    settings = {key: value for key, value in changes.items() if key != AVERAGING}
    chosen = cifarnet.recipe("fast").changed({"epochs": EPOCHS, "seed": seed} | settings)
    dataset = cifarnet.open_dataset(source)
    parts = hold_out(dataset.train, chosen.train.validation_fraction, seed, len(dataset.labels))
    held_out = Split(dataset.train.images[parts.validation], dataset.train.labels[parts.validation])
    unseen = dataclasses.replace(dataset, test=held_out)  # so that the test images play no part
    job = cifarnet.Job(recipe="fast", model=chosen.model, train=chosen.train)
    with tempfile.TemporaryDirectory() as folder, averaged_weights(changes.get(AVERAGING, 0)):
        run = cifarnet.start(job, unseen, Path(folder))
        record = cifarnet.carry_out(run, unseen, EpochPrinter())
        flipped = evaluate(flip_averaged(predictor(load_best(run))), held_out)
    return {
        "trial": name,
        "changes": changes,
        "settings": chosen.model.to_json() | chosen.train.to_json(),
        "seed": seed,
        "validation": record["metrics"]["validation"],
        "flip_accuracy": flipped.accuracy,
        "minutes": record["elapsed_s"] / 60,
        "backend": cifarnet.choose_backend(),
        "machine": machine(),
        "versions": versions(),
    }


def table(path: Path = PATH) -> str:
    """Return what has trials with two seeds or more as a Markdown table: by epochs, the recipe first, then the worst.

    Points are the mean difference of a trial from the recipe trained for as many epochs, from the same seed, on the
    same processor; there are none for a row with a trial that has no such partner.
    """
    found = grouped(path, lambda line: (line["settings"]["epochs"], line["trial"]))
    groups = {key: group for key, group in found.items() if len({line["seed"] for line in group}) > 1}
    points = {key: _points(group, found.get((key[0], WHOLE), [])) for key, group in groups.items()}
    cells = [
        [
            name,
            str(epochs),
            str(len(groups[epochs, name])),
            mean_and_range([_percent(each) for each in groups[epochs, name]], "{:.2f} %"),
            shown(points[epochs, name], "+.2f") if name != WHOLE else "",
            f"{100 * statistics.mean(each['flip_accuracy'] for each in groups[epochs, name]):.2f} %",
            f"{statistics.mean(each['validation']['loss'] for each in groups[epochs, name]):.4f}",
            f"{statistics.mean(each['minutes'] for each in groups[epochs, name]):.1f}",
        ]
        for epochs, name in sorted(groups, key=lambda key: (key[0], key[1] != WHOLE, points[key] or 0))
    ]
    titles = (
        "changed",
        "epochs",
        "trainings",
        "validation accuracy",
        "points",
        "with TTA",
        "validation loss",
        "minutes",
    )
    machines = sorted({cores(line["machine"]) for group in groups.values() for line in group})
    return f"{rows(titles, cells)}\n\nOn {' and '.join(machines)}."


def _points(group: Sequence[Line], whole: Sequence[Line]) -> float | None:
    partners = {_circumstances(line): _percent(line) for line in whole}
    if not all(_circumstances(line) in partners for line in group):
        return None
    return statistics.mean(_percent(line) - partners[_circumstances(line)] for line in group)


def _circumstances(line: Line) -> tuple[int, str]:
    return line["seed"], cores(line["machine"])


def _percent(line: Line) -> float:
    return 100 * float(line["validation"]["accuracy"])


def main() -> None:
    """Run the trials named on the command line, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="NAME")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.backend:
        cifarnet.prepare_process()
        cifarnet.choose_backend(given.backend)
    for name in given.trials:
        append(PATH, run_trial(name, given.seed, epochs=given.epochs))
    if given.table:
        print(table())


if __name__ == "__main__":
    main()
