"""The records of all campaigns, one line of JSON per batch, and their table."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.harness.records import Line, append, grouped, machine, markdown
from cifarnet.system import versions

PATH = RESULTS / "campaigns.jsonl"
UNITS = {"kills": "deaths", "fuzz": "damaged inputs", "faults": "failures"}
SHOWN = 20
"""Unexplained findings on the page; the records hold all."""


def store(path: Path, kind: str, **facts: Any) -> None:
    """Append one record: what was tried on what, how often, and with which outcome."""
    names = ("keras", "jax", "torch", "tensorflow-cpu", "numpy", "h5py", "onnxruntime", "pillow", "hypothesis")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    here = {name: value for name, value in machine().items() if name in ("processor", "cores", "system")}
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, {"kind": kind, "at": when, **facts, "machine": here, "versions": versions(names)})


def table(path: Path = PATH) -> str:
    """Return one row per campaign and backend, sums over all records, and the first unexplained findings.

    A finding whose cause was fixed is moved from ``unexplained`` to ``fixed`` in its record, with the cause.
    """
    groups = grouped(path, lambda record: (record["kind"], record["backend"]))
    titles = ("campaign", "backend", "tried", "how", "found and fixed", "unexplained", "minutes", "last")
    rows = [_row(*key, groups[key]) for key in sorted(groups)]
    findings = [
        f"- {kind}, {backend}, seed {record['seed']}: {_shown(finding)}"
        for (kind, backend), records in groups.items()
        for record in records
        for finding in record["unexplained"]
    ]
    return "\n".join([markdown(titles, rows), *findings[:SHOWN]])


def _row(kind: str, backend: str, records: list[Line]) -> list[str]:
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record["counts"])
    return [
        kind,
        backend,
        f"{counts.total():,} {UNITS[kind]}",
        ", ".join(f"{name} {count:,}" for name, count in counts.most_common()),
        *(str(sum(len(record.get(name, ())) for record in records)) for name in ("fixed", "unexplained")),
        f"{sum(record['seconds'] for record in records) / 60:.0f}",
        max(record["at"] for record in records)[:10],
    ]


def _shown(finding: Line) -> str:
    return " ".join(str(finding["what"]).split()).replace("|", "\\|")[:200]
