"""Write the README's tables from the stored records: ``python -m benchmarks.readme``.

``benchmarks/results/runs/*.json`` are ``run.json`` files of whole trainings, as `make train` left them;
``benchmarks/results/exports/RECIPE-BACKEND-*.json`` are ``model*.parity.json`` files, as `cifarnet export` left them;
``benchmarks/results/tuning.jsonl`` and ``changed_recipes.jsonl`` hold the trials by which `seed` and `strong` were
chosen; ``training``, ``inference``, ``scaling`` and ``startup.jsonl`` are what `make bench` left, ``recipes``,
``ablation`` and ``own_images.jsonl`` what the benchmarks of those names did.
``--check`` writes nothing and fails when the README says something else.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import ablation, own_images
from benchmarks.agreement import table as agreement_table
from benchmarks.apps import table as apps_table
from benchmarks.evidence import calibration_table, comparison_table, robustness_table
from benchmarks.inference import table as inference_table
from benchmarks.recipes import table as recipes_table
from benchmarks.recipes.table import changed_table
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
    """Return the stored records, ordered by seed and backend."""
    found = [json.loads(path.read_text()) for path in RUNS.glob("*.json")]
    return sorted(found, key=lambda record: (record["seed"], record["backend"]))


def runs_table(found: list[dict[str, Any]]) -> str:
    """Return one row per run."""
    titles = "backend, seed, test accuracy, validation loss, best epoch, stopped, seconds per epoch, minutes"
    head = [*titles.split(", "), "cores", "processor"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + [_row(record) for record in found])


def _row(record: dict[str, Any]) -> str:
    stopped = f"{STOPPED[record['why_stopped']]}, epoch {record['epochs']}"
    cells = (
        record["backend"],
        record["seed"],
        f"{100 * record['metrics']['test']['accuracy']:.2f} %",
        f"{record['metrics']['validation']['loss']:.4f}",
        record["best_epoch"],
        stopped,
        f"{record['seconds_per_epoch']:.0f}",
        f"{record['elapsed_s'] / 60:.0f}",
        record["machine"]["cores"],
        record["machine"]["processor"],
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def summary(found: list[dict[str, Any]]) -> str:
    """Return the sentence with the mean over the stored runs, and how far they lie apart."""
    accuracies = [100 * record["metrics"]["test"]["accuracy"] for record in found]
    seeds, backends = ({record[key] for record in found} for key in ("seed", "backend"))
    return (
        f"**{statistics.mean(accuracies):.1f} % test accuracy** on CIFAR-10: the mean of {len(found)} whole runs, "
        f"{min(accuracies):.2f} to {max(accuracies):.2f} %, over {len(seeds)} seeds and {len(backends)} frameworks."
    )


def exports_table() -> str:
    """Return one row per exported file: what was proven of it, and what it costs."""
    found = [(path.stem.partition("-")[0], json.loads(path.read_text())) for path in sorted(EXPORTS.glob("*.json"))]
    lines = [
        "| recipe | backend | computed in | bytes | accuracy as trained | accuracy of the file | "
        "largest difference of a probability | classes changed | one image, against float32 |",
        "|---" * 9 + "|",
    ]
    ordered = sorted(found, key=lambda each: (list(RECIPES).index(each[0]), -each[1]["size_bytes"]))
    return "\n".join(lines + [_export_row(*each) for each in ordered])


def _export_row(recipe: str, measured: dict[str, Any]) -> str:
    checks = measured["checks"]
    speedups = [each["float32_microseconds"] / each["microseconds"] for each in measured["latencies"]]
    cells = (
        f"`{recipe}`",
        measured["backend"],
        measured["precision"],
        f"{measured['size_bytes']:,}",
        f"{100 * measured['trained_accuracy']:.2f} %",
        f"{100 * measured['accuracy']:.2f} %",
        f"{max(check['probability_difference'] for check in checks):.1e}",
        f"{checks[0]['changed_classes']} of {checks[0]['images']:,}",
        f"{speedups[0]:.2f} times as fast" if speedups else "",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def filled(text: str, name: str, content: str) -> str:
    """Return ``text`` with what stands between the marks called ``name`` replaced by ``content``."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"error: README.md lacks the marks {start} and {end}; expected both: put them back")
    return f"{before}{start}\n{content}\n{end}{after}"


def main() -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    readme = PROJECT / "README.md"
    text, found = readme.read_text(), records()
    new = filled(text, "summary", summary(found))
    new = filled(new, "runs", runs_table(found))
    new = filled(new, "exports", exports_table())
    new = filled(new, "apps", apps_table())
    new = filled(new, "startup", startup_table())
    new = filled(new, "trials", tuning_table())
    new = filled(new, "agreement", agreement_table())
    new = filled(new, "calibration", calibration_table(found))
    new = filled(new, "robustness", robustness_table())
    new = filled(new, "comparison", comparison_table())
    new = filled(new, "strong", changed_table())
    contests = {
        "training": training_table,
        "inference": inference_table,
        "scaling": scaling_table,
        "recipes": recipes_table,
        "ablation": ablation,
        "own images": own_images,
    }
    for name, contest in contests.items():
        new = filled(new, name, contest.table()) if contest.PATH.exists() else new
    if not parser.parse_args().check:
        readme.write_text(new)
    elif new != text:
        sys.exit("error: README.md differs from the stored results; expected the same: run `make results`")


if __name__ == "__main__":
    main()
