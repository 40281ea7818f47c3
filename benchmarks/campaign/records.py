"""The records of all campaigns, one line of JSON per batch, and the table that sums them up."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness.records import RESULTS, append, machine, markdown
from cifarnet.environment import versions

PATH = RESULTS / "campaigns.jsonl"
UNITS = {"kills": "deaths", "fuzz": "damaged inputs", "faults": "failures"}
SHOWN = 20
"""Unexplained findings that the page lists; the records hold all."""


def store(path: Path, kind: str, **facts: Any) -> None:
    """Append one record: what was tried where, how often, and what came of it."""
    names = ("keras", "jax", "torch", "tensorflow-cpu", "numpy", "h5py", "onnxruntime", "pillow", "hypothesis")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, {"kind": kind, "at": when, **facts, "machine": _machine(), "versions": versions(names)})


def _machine() -> dict[str, Any]:
    return {name: value for name, value in machine().items() if name in ("processor", "cores", "system")}


def table(path: Path = PATH) -> str:
    """Return one row per campaign and backend, sums over all records, and what was unexplained."""
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["kind"], record["backend"]].append(record)
    titles = ["campaign", "backend", "tried", "how", "unexplained", "minutes", "last"]
    lines = [markdown(titles, [_row(*key, of) for key, of in sorted(groups.items())])]
    open_ = [(record, each) for record in records for each in record["unexplained"]]
    for record, each in open_[:SHOWN]:
        lines.append(f"- {record['kind']}, {record['backend']}, seed {record['seed']}: {_shown(each)}")
    return "\n".join(lines)


def _row(kind: str, backend: str, records: list[dict[str, Any]]) -> list[str]:
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record["counts"])
    how = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    minutes = sum(record["seconds"] for record in records) / 60
    found = sum(len(record["unexplained"]) for record in records)
    return [
        kind,
        backend,
        f"{counts.total():,} {UNITS[kind]}",
        how,
        str(found),
        f"{minutes:.0f}",
        max(record["at"] for record in records)[:10],
    ]


def _shown(finding: dict[str, Any]) -> str:
    return " ".join(str(finding["what"]).split()).replace("|", "\\|")[:200]
