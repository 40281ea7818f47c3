"""The tables of whole runs and exported files, from the records that `cifarnet` itself leaves.

``results/runs/*.json`` are ``run.json`` files of whole runs, ``results/exports/RECIPE-BACKEND-*.json`` are
``model*.parity.json`` files, ``results/robustness.json`` is what `cifarnet robustness` left in the folder of one run,
``results/comparison.json`` what `cifarnet compare` left, and ``results/evaluations/pretrained-N.json`` what `cifarnet
evaluate pretrained --data cifar10 --tta N --json` printed.
"""

import json
import statistics

from benchmarks import RESULTS
from benchmarks.harness.records import Line, percent, rounded, table_of
from cifarnet.recipes import RECIPES

STOPPED = {"patience": "patience of 20", "epochs": "last epoch"}


def records() -> list[Line]:
    """Return the stored run records, ordered by seed and backend."""
    found = [json.loads(path.read_text()) for path in (RESULTS / "runs").glob("*.json")]
    return sorted(found, key=lambda record: (record["seed"], record["backend"]))


def runs_table() -> str:
    """Return the mean test accuracy of the whole runs of `seed`, and one row per run."""
    found = records()
    accuracies = [100 * run["metrics"]["test"]["accuracy"] for run in found]
    seeds, backends = ({run[key] for run in found} for key in ("seed", "backend"))
    columns = {
        "backend": lambda run: run["backend"],
        "seed": lambda run: run["seed"],
        "test accuracy": lambda run: percent(run["metrics"]["test"]["accuracy"], 2),
        "validation loss": lambda run: f"{run['metrics']['validation']['loss']:.4f}",
        "best epoch": lambda run: run["best_epoch"],
        "stopped by": lambda run: f"{STOPPED[run['why_stopped']]}, epoch {run['epochs']}",
        "seconds per epoch": lambda run: f"{run['seconds_per_epoch']:.0f}",
        "minutes": lambda run: f"{run['elapsed_s'] / 60:.0f}",
        "cores": lambda run: run["machine"]["cores"],
        "processor": lambda run: run["machine"]["processor"],
    }
    return (
        f"**{statistics.mean(accuracies):.1f}% test accuracy** on CIFAR-10: the mean of {len(found)} whole runs "
        f"({min(accuracies):.2f} to {max(accuracies):.2f}%) over {len(seeds)} seeds and {len(backends)} backends."
        f"\n\n{table_of(columns, found)}"
    )


def exports_table() -> str:
    """Return one row per exported file: the result of its parity check, its size and its speed."""
    paths = (RESULTS / "exports").glob("*.json")
    found = [json.loads(path.read_text()) | {"recipe": path.stem.partition("-")[0]} for path in paths]
    found.sort(key=lambda file: (list(RECIPES).index(file["recipe"]), -file["size_bytes"], file["backend"]))
    columns = {
        "recipe": lambda file: f"`{file['recipe']}`",
        "backend": lambda file: file["backend"],
        "precision": lambda file: file["precision"],
        "bytes": lambda file: f"{file['size_bytes']:,}",
        "accuracy of the trained model": lambda file: percent(file["trained_accuracy"], 2),
        "accuracy of the file": lambda file: percent(file["accuracy"], 2),
        "largest difference of a probability": _largest_difference,
        "predictions changed": lambda file: "{changed_classes} of {images:,}".format(**file["checks"][0]),
        "speed-up over float32, batch size 1": _speed_up,
    }
    return table_of(columns, found)


def _largest_difference(file: Line) -> str:
    return f"{max(check['probability_difference'] for check in file['checks']):.1e}"


def _speed_up(file: Line) -> str:
    """Return the speed-up at the first batch size, 1, or an empty text without latencies."""
    for each in file["latencies"]:
        return f"{each['float32_microseconds'] / each['microseconds']:.2f}"
    return ""


def views_table() -> str:
    """Return one row per number of views of test-time augmentation of the bundled classifier."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / "evaluations").glob("pretrained-*.json"))]
    columns = {
        "views": lambda each: each["views"],
        "test accuracy": lambda each: percent(each["evaluation"]["accuracy"], 2),
        "top-2 accuracy": lambda each: percent(each["evaluation"]["top2_accuracy"], 2),
        "log loss": lambda each: f"{each['evaluation']['loss']:.3f}",
    }
    return table_of(columns, found)


def calibration_table() -> str:
    """Return one row per run with a calibration: the error before and after, and selective prediction."""
    found = []
    for record in records():
        if calibration := record.get("calibration"):
            selective = calibration["abstention"] or dict.fromkeys(("coverage", "threshold", "accuracy"))
            found.append({"backend": record["backend"], "seed": record["seed"], **calibration, **selective})
    columns = {
        "backend": lambda run: run["backend"],
        "seed": lambda run: run["seed"],
        "temperature": lambda run: f"{run['temperature']:.2f}",
        "ECE at temperature 1": lambda run: percent(run["ece_before"]),
        "ECE at the fitted temperature": lambda run: percent(run["ece_after"]),
        "coverage": lambda run: percent(run["coverage"]),
        "threshold": lambda run: "never" if run["threshold"] is None else f"{run['threshold']:.2f}",
        "selective accuracy": lambda run: percent(run["accuracy"]),
    }
    return table_of(columns, found)


def robustness_table() -> str:
    """Return one row per corruption, the most harmful first: accuracy at severity 1, 3 and 5, and the mean."""
    found = json.loads((RESULTS / "robustness.json").read_text())
    clean = found["clean"]["accuracy"]
    rows = [(f"none ({found['images']:,} images)", [clean] * 5, clean)]
    for name, each in sorted(found["families"].items(), key=lambda item: -item[1]["mean_error"]):
        accuracies = [severity["accuracy"] for severity in each["severities"]]
        rows.append((name.replace("_", " "), accuracies, 1 - each["mean_error"]))
    columns = {
        "corruption": lambda row: row[0],
        "severity 1": lambda row: percent(row[1][0]),
        "severity 3": lambda row: percent(row[1][2]),
        "severity 5": lambda row: percent(row[1][4]),
        "mean of five": lambda row: percent(row[2]),
    }
    return table_of(columns, rows)


def comparison_table() -> str:
    """Return one row per backend, then one per pair of backends."""
    found = json.loads((RESULTS / "comparison.json").read_text())
    trainings = {
        "trained on": lambda run: run["backend"],
        "validation accuracy": lambda run: percent(run["validation"]["accuracy"]),
        "test accuracy (95%)": _accuracy_with_interval,
        "same class as its ONNX file": lambda run: percent(run["file_agreement"], 2),
        "seconds per epoch": lambda run: f"{run['seconds_per_epoch']:.0f}",
        "memory": lambda run: f"{run['peak_memory_bytes'] / 1e6:,.0f} MB",
    }
    pairs = {
        "between": lambda pair: f"{pair['first']}, {pair['second']}",
        "first loss differs by": lambda pair: rounded(pair["first_loss_difference"]),
        "first gradient by": lambda pair: rounded(pair["gradient_difference"]),
        "same class on the test images": lambda pair: percent(pair["agreement"]),
        "McNemar's p": lambda pair: f"{pair['p_value']:.2g}",
    }
    return f"{table_of(trainings, found['trainings'])}\n\n{table_of(pairs, found['pairs'])}"


def _accuracy_with_interval(run: Line) -> str:
    low, high = (100 * run["test"]["interval"][end] for end in ("low", "high"))
    return f"{percent(run['test']['accuracy'])} ({low:.1f} to {high:.1f})"
