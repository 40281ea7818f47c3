"""The README's tables about trust: calibration, corrupted images, and the frameworks side by side.

``results/runs/*.json`` are records of whole trainings, ``results/robustness.json`` is what `cifarnet robustness` left
in the folder of one of them, ``results/comparison.json`` what `cifarnet compare` left.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def calibration_table(records: list[dict[str, Any]]) -> str:
    """Return one row per run that keeps its calibration: the error before and after, and selective prediction."""
    rows = [_calibration_row(record) for record in records if "calibration" in record]
    errors = "ECE at temperature 1, ECE at the fitted temperature"
    head = f"backend, seed, temperature, {errors}, coverage, threshold, selective accuracy"
    return _table(head.split(", "), rows)


def _calibration_row(record: dict[str, Any]) -> list[str]:
    found = record["calibration"]
    trade = found["abstention"] or dict.fromkeys(("coverage", "threshold", "accuracy"))
    threshold = trade["threshold"]
    return [
        record["backend"],
        str(record["seed"]),
        f"{found['temperature']:.2f}",
        _percent(found["ece_before"]),
        _percent(found["ece_after"]),
        _percent(trade["coverage"]),
        "never" if threshold is None else f"{threshold:.2f}",
        _percent(trade["accuracy"]),
    ]


def robustness_table() -> str:
    """Return one row per corruption, the one that hurts most first: accuracy at severity 1, 3 and 5, and the mean."""
    found = json.loads((RESULTS / "robustness.json").read_text())
    ranking = sorted(found["families"].items(), key=lambda item: -item[1]["mean_error"])
    rows = [
        [
            name.replace("_", " "),
            *(_percent(each["severities"][at]["accuracy"]) for at in (0, 2, 4)),
            _percent(1 - each["mean_error"]),
        ]
        for name, each in ranking
    ]
    clean = [f"none ({found['images']:,} images)", *[_percent(found["clean"]["accuracy"])] * 4]
    return _table(["corruption", "severity 1", "severity 3", "severity 5", "mean of five"], [clean, *rows])


def comparison_table() -> str:
    """Return one row per backend, then one per pair: what came out, and how far apart the first step lies."""
    found = json.loads((RESULTS / "comparison.json").read_text())
    rows = [_training_row(training) for training in found["trainings"]]
    head = (
        "trained on, validation accuracy, test accuracy (95 %), same class as its ONNX file, seconds per epoch, memory"
    )
    pairs = [_pair_row(pair) for pair in found["pairs"]]
    pair_head = "between, first loss differs by, first gradient by, same class on the test images, McNemar's p"
    return "\n\n".join([_table(head.split(", "), rows), _table(pair_head.split(", "), pairs)])


def _training_row(training: dict[str, Any]) -> list[str]:
    low, high = (100 * training["test"]["interval"][end] for end in ("low", "high"))
    return [
        training["backend"],
        _percent(training["validation"]["accuracy"]),
        f"{_percent(training['test']['accuracy'])} ({low:.1f} to {high:.1f})",
        f"{100 * training['file_agreement']:.2f} %",
        f"{training['seconds_per_epoch']:.0f}",
        f"{training['peak_memory_bytes'] / 1e6:,.0f} MB",
    ]


def _pair_row(pair: dict[str, Any]) -> list[str]:
    differences = [f"{pair[key]:.0e}" if pair[key] else "0" for key in ("first_loss_difference", "gradient_difference")]
    return [f"{pair['first']}, {pair['second']}", *differences, _percent(pair["agreement"]), f"{pair['p_value']:.2g}"]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
