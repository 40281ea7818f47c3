"""Write the tables of the README and of docs/ from the stored results: ``python -m benchmarks.documents``.

A table stands between the marks ``<!-- name -->`` and ``<!-- end of name -->``. ``--check`` writes nothing and fails
when a page differs.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping

from benchmarks import (
    PROJECT,
    agreement,
    apps,
    evidence,
    interoperability,
    keras_models,
    own_images,
    photographs,
    ray,
    startup,
    trials,
    workers,
)
from benchmarks.campaign import records
from benchmarks.inference import table as inference
from benchmarks.recipes import published
from benchmarks.recipes import table as recipes
from benchmarks.scaling import table as scaling
from benchmarks.training import table as training

TABLES: Mapping[str, Callable[[], str]] = {
    "ablation": trials.ablation_table,
    "agreement": agreement.table,
    "apps": apps.table,
    "calibration": evidence.calibration_table,
    "campaigns": records.table,
    "comparison": evidence.comparison_table,
    "curve": recipes.curve_table,
    "exports": evidence.exports_table,
    "inference": inference.table,
    "interoperability": interoperability.table,
    "keras models": keras_models.table,
    "own images": own_images.table,
    "photographs": photographs.table,
    "ray": ray.table,
    "recipes": recipes.short_table,
    "records": published.records_table,
    "robustness": evidence.robustness_table,
    "runs": evidence.runs_table,
    "scaling": scaling.table,
    "startup": startup.table,
    "strong": recipes.changed_table,
    "training": training.table,
    "trials": trials.tuning_table,
    "tuned": recipes.tuned_table,
    "views": evidence.views_table,
    "workers": workers.table,
}
"""The Markdown of each table, by the name in its marks."""


def filled(text: str) -> str:
    """Return the page ``text`` with every table made anew."""
    return re.sub(
        r"<!-- (?!end of )(.+?) -->\n.*?<!-- end of \1 -->",
        lambda found: f"<!-- {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end of {found[1]} -->",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page in (PROJECT / "README.md", PROJECT / "export/README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        text = page.read_text()
        new = filled(text)
        if check and new != text:
            sys.exit(f"error: {page.name} differs from the stored results; expected the same: run `make results`")
        if new != text:
            page.write_text(new)


if __name__ == "__main__":
    main()
