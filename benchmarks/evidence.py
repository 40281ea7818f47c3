"""The tables of whole runs and exported files, from the records that `cifarnet` itself leaves.

``results/runs/*.json`` are ``run.json`` files of whole trainings, ``results/exports/RECIPE-BACKEND-*.json`` are
``model*.parity.json`` files, ``results/robustness.json`` is what `cifarnet robustness` left in the folder of one run,
and ``results/comparison.json`` what `cifarnet compare` left.
"""

import json
import statistics
from typing import Any

from benchmarks.harness.records import RESULTS, markdown, percent
from cifarnet.recipes import RECIPES

STOPPED = {"patience": "patience of 20", "epochs": "last epoch"}


def records() -> list[dict[str, Any]]:
    """Return the stored run records, ordered by seed and backend."""
    found = [json.loads(path.read_text()) for path in (RESULTS / "runs").glob("*.json")]
    return sorted(found, key=lambda record: (record["seed"], record["backend"]))


def runs_table() -> str:
    """Return the mean test accuracy of the whole runs of `seed`, and one row per run."""
    titles = (
        *("backend", "seed", "test accuracy", "validation loss", "best epoch", "stopped by", "seconds per epoch"),
        *("minutes", "cores", "processor"),
    )
    found = records()
    accuracies = [100 * record["metrics"]["test"]["accuracy"] for record in found]
    seeds, backends = ({record[key] for record in found} for key in ("seed", "backend"))
    summary = (
        f"**{statistics.mean(accuracies):.1f} % test accuracy** on CIFAR-10: the mean of {len(found)} whole runs "
        f"({min(accuracies):.2f} to {max(accuracies):.2f} %) over {len(seeds)} seeds and {len(backends)} backends."
    )
    return f"{summary}\n\n{markdown(titles, [_run_row(record) for record in found])}"


def _run_row(record: dict[str, Any]) -> list[object]:
    return [
        record["backend"],
        record["seed"],
        percent(record["metrics"]["test"]["accuracy"], 2),
        f"{record['metrics']['validation']['loss']:.4f}",
        record["best_epoch"],
        f"{STOPPED[record['why_stopped']]}, epoch {record['epochs']}",
        f"{record['seconds_per_epoch']:.0f}",
        f"{record['elapsed_s'] / 60:.0f}",
        record["machine"]["cores"],
        record["machine"]["processor"],
    ]


def exports_table() -> str:
    """Return one row per exported file: the result of its parity check, its size and its speed."""
    found = [(path.stem.partition("-")[0], json.loads(path.read_text())) for path in (RESULTS / "exports").iterdir()]
    titles = (
        *("recipe", "backend", "precision", "bytes", "accuracy of the trained model", "accuracy of the file"),
        *("largest difference of a probability", "predictions changed", "one image, against float32"),
    )
    ordered = sorted(found, key=lambda each: (list(RECIPES).index(each[0]), -each[1]["size_bytes"], each[1]["backend"]))
    return markdown(titles, [_export_row(*each) for each in ordered])


def _export_row(recipe: str, measured: dict[str, Any]) -> list[str]:
    checks = measured["checks"]
    speedups = [each["float32_microseconds"] / each["microseconds"] for each in measured["latencies"]]
    return [
        f"`{recipe}`",
        measured["backend"],
        measured["precision"],
        f"{measured['size_bytes']:,}",
        percent(measured["trained_accuracy"], 2),
        percent(measured["accuracy"], 2),
        f"{max(check['probability_difference'] for check in checks):.1e}",
        f"{checks[0]['changed_classes']} of {checks[0]['images']:,}",
        f"{speedups[0]:.2f} times as fast" if speedups else "",
    ]


def calibration_table() -> str:
    """Return one row per run with a calibration: the error before and after, and selective prediction."""
    titles = (
        *("backend", "seed", "temperature", "ECE at temperature 1", "ECE at the fitted temperature"),
        *("coverage", "threshold", "selective accuracy"),
    )
    return markdown(titles, [_calibration_row(record) for record in records() if "calibration" in record])


def _calibration_row(record: dict[str, Any]) -> list[object]:
    found = record["calibration"]
    selective = found["abstention"] or dict.fromkeys(("coverage", "threshold", "accuracy"))
    threshold = selective["threshold"]
    return [
        record["backend"],
        record["seed"],
        f"{found['temperature']:.2f}",
        percent(found["ece_before"]),
        percent(found["ece_after"]),
        percent(selective["coverage"]),
        "never" if threshold is None else f"{threshold:.2f}",
        percent(selective["accuracy"]),
    ]


def robustness_table() -> str:
    """Return one row per corruption, the most harmful first: accuracy at severity 1, 3 and 5, and the mean."""
    found = json.loads((RESULTS / "robustness.json").read_text())
    rows = [[f"none ({found['images']:,} images)", *[percent(found["clean"]["accuracy"])] * 4]]
    for name, each in sorted(found["families"].items(), key=lambda item: -item[1]["mean_error"]):
        severities = [percent(each["severities"][at]["accuracy"]) for at in (0, 2, 4)]
        rows.append([name.replace("_", " "), *severities, percent(1 - each["mean_error"])])
    return markdown(("corruption", "severity 1", "severity 3", "severity 5", "mean of five"), rows)


def comparison_table() -> str:
    """Return one row per backend, then one per pair of backends."""
    found = json.loads((RESULTS / "comparison.json").read_text())
    titles = (
        *("trained on", "validation accuracy", "test accuracy (95 %)", "same class as its ONNX file"),
        *("seconds per epoch", "memory"),
    )
    pair_titles = (
        "between",
        "first loss differs by",
        "first gradient by",
        "same class on the test images",
        "McNemar's p",
    )
    trainings = markdown(titles, [_training_row(training) for training in found["trainings"]])
    return f"{trainings}\n\n{markdown(pair_titles, [_pair_row(pair) for pair in found['pairs']])}"


def _training_row(training: dict[str, Any]) -> list[str]:
    low, high = (100 * training["test"]["interval"][end] for end in ("low", "high"))
    return [
        training["backend"],
        percent(training["validation"]["accuracy"]),
        f"{percent(training['test']['accuracy'])} ({low:.1f} to {high:.1f})",
        percent(training["file_agreement"], 2),
        f"{training['seconds_per_epoch']:.0f}",
        f"{training['peak_memory_bytes'] / 1e6:,.0f} MB",
    ]


def _pair_row(pair: dict[str, Any]) -> list[str]:
    differences = [f"{pair[key]:.0e}" if pair[key] else "0" for key in ("first_loss_difference", "gradient_difference")]
    return [f"{pair['first']}, {pair['second']}", *differences, percent(pair["agreement"]), f"{pair['p_value']:.2g}"]
