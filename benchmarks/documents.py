"""Write the tables of the README and of docs/ from the stored results: ``python -m benchmarks.documents``.

A table stands between the marks ``<!-- name -->`` and ``<!-- end of name -->``; ``TABLES`` says what fills it.
``benchmarks/results/runs/*.json`` are ``run.json`` files of whole trainings, as `make train` left them;
``benchmarks/results/exports/RECIPE-BACKEND-*.json`` are ``model*.parity.json`` files, as `cifarnet export` left them;
the other files in ``results/`` are what the benchmark of the same name wrote.
``--check`` writes nothing and fails when a page differs.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import ablation, own_images
from benchmarks.agreement import table as agreement_table
from benchmarks.apps import table as apps_table
from benchmarks.campaign.records import table as campaigns_table
from benchmarks.evidence import calibration_table, comparison_table, robustness_table
from benchmarks.harness.records import rows
from benchmarks.inference import table as inference_table
from benchmarks.recipes.table import changed_table, curve_table, short_table
from benchmarks.scaling import table as scaling_table
from benchmarks.startup import table as startup_table
from benchmarks.training import table as training_table
from benchmarks.tuning import table as tuning_table
from cifarnet.recipes import RECIPES

PROJECT = Path(__file__).parents[1]
RUNS = PROJECT / "benchmarks" / "results" / "runs"
EXPORTS = PROJECT / "benchmarks" / "results" / "exports"

STOPPED = {"patience": "patience of 20", "epochs": "last epoch"}


def records() -> list[dict[str, Any]]:
    """Return the stored run records, ordered by seed and backend."""
    found = [json.loads(path.read_text()) for path in RUNS.glob("*.json")]
    return sorted(found, key=lambda record: (record["seed"], record["backend"]))


def runs_table() -> str:
    """Return the mean test accuracy of the whole runs of `seed`, and one row per run."""
    head = (
        *("backend", "seed", "test accuracy", "validation loss", "best epoch", "stopped by", "seconds per epoch"),
        *("minutes", "cores", "processor"),
    )
    return f"{_summary(records())}\n\n{rows(head, [_row(record) for record in records()])}"


def _row(record: dict[str, Any]) -> list[str]:
    cells = (
        record["backend"],
        record["seed"],
        f"{100 * record['metrics']['test']['accuracy']:.2f} %",
        f"{record['metrics']['validation']['loss']:.4f}",
        record["best_epoch"],
        f"{STOPPED[record['why_stopped']]}, epoch {record['epochs']}",
        f"{record['seconds_per_epoch']:.0f}",
        f"{record['elapsed_s'] / 60:.0f}",
        record["machine"]["cores"],
        record["machine"]["processor"],
    )
    return [str(cell) for cell in cells]


def _summary(found: list[dict[str, Any]]) -> str:
    accuracies = [100 * record["metrics"]["test"]["accuracy"] for record in found]
    seeds, backends = ({record[key] for record in found} for key in ("seed", "backend"))
    return (
        f"**{statistics.mean(accuracies):.1f} % test accuracy** on CIFAR-10: the mean of {len(found)} whole runs "
        f"({min(accuracies):.2f} to {max(accuracies):.2f} %) over {len(seeds)} seeds and {len(backends)} backends."
    )


def exports_table() -> str:
    """Return one row per exported file: what the parity check measured, its size and its speed."""
    found = [(path.stem.partition("-")[0], json.loads(path.read_text())) for path in EXPORTS.glob("*.json")]
    head = (
        *("recipe", "backend", "precision", "bytes", "accuracy of the trained model", "accuracy of the file"),
        *("largest difference of a probability", "predictions changed", "one image, against float32"),
    )
    ordered = sorted(found, key=lambda each: (list(RECIPES).index(each[0]), -each[1]["size_bytes"], each[1]["backend"]))
    return rows(head, [_export_row(*each) for each in ordered])


def _export_row(recipe: str, measured: dict[str, Any]) -> list[str]:
    checks = measured["checks"]
    speedups = [each["float32_microseconds"] / each["microseconds"] for each in measured["latencies"]]
    return [
        f"`{recipe}`",
        measured["backend"],
        measured["precision"],
        f"{measured['size_bytes']:,}",
        f"{100 * measured['trained_accuracy']:.2f} %",
        f"{100 * measured['accuracy']:.2f} %",
        f"{max(check['probability_difference'] for check in checks):.1e}",
        f"{checks[0]['changed_classes']} of {checks[0]['images']:,}",
        f"{speedups[0]:.2f} times as fast" if speedups else "",
    ]


TABLES: Mapping[str, Callable[[], str]] = {
    "ablation": ablation.table,
    "agreement": agreement_table,
    "apps": apps_table,
    "calibration": lambda: calibration_table(records()),
    "campaigns": campaigns_table,
    "comparison": comparison_table,
    "curve": curve_table,
    "exports": exports_table,
    "inference": inference_table.table,
    "own images": own_images.table,
    "recipes": short_table,
    "robustness": robustness_table,
    "runs": runs_table,
    "scaling": scaling_table.table,
    "startup": startup_table,
    "strong": changed_table,
    "training": training_table.table,
    "trials": tuning_table,
}
"""The Markdown of each table, by the name in its marks."""


def pages() -> list[Path]:
    """Return the pages that may have tables."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """Return the page ``text`` with every table made anew."""
    return re.sub(
        r"<!-- (?!end of )(.+?) -->\n.*?<!-- end of \1 -->",
        lambda found: f"<!-- {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end of {found[1]} -->",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page in pages():
        text = page.read_text()
        new = filled(text)
        if check and new != text:
            sys.exit(f"error: {page.name} differs from the stored results; expected the same: run `make results`")
        if new != text:
            page.write_text(new)


if __name__ == "__main__":
    main()
