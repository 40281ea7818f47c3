"""Checks of the files below a folder after a death or a failure, and the comparison of two runs."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from cifarnet.report import PAGE
from cifarnet.run.folder import EXPORT_LOCK, LOCK, RECORD, SEEN, Run
from cifarnet.runtime import read_model
from cifarnet.training.checkpoint import DIGEST_BYTES

OF_THE_CLOCK = ("started", "elapsed_s", "seconds_per_epoch")
"""Fields of a run's record that depend on the clock."""


def problems(folder: Path) -> list[str]:
    """Name each file below ``folder``, temporary ones aside, that is not whole."""
    found = []
    for path in sorted(folder.rglob("*")):
        check = CHECKS.get(path.suffix)
        if check is None or path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        try:
            check(path)
        except Exception as error:  # noqa: BLE001  # whatever a damaged file raises
            found.append(f"{path.name} is not whole ({type(error).__name__}: {str(error)[:100]})")
    return found


def temporary_files(folder: Path) -> list[str]:
    """Name the temporary files that were left below ``folder``, those in folders that never became a run aside."""
    return sorted(
        path.name
        for path in folder.rglob(".*")
        if path.name not in (LOCK, EXPORT_LOCK) and (path.is_symlink() or not path.is_dir())
        if path.parent == folder or any((place / RECORD).exists() for place in (path.parent, path.parent.parent))
    )


def differences(one: Run, other: Run) -> list[str]:
    """Name the differences of two runs bit by bit, the clock and the pages of the report aside."""
    first, second = (_record(run) for run in (one, other))
    found = [f"{name} of {RECORD}" for name in {*first, *second} if first.get(name) != second.get(name)]
    files = ("history.csv", SEEN, "model.onnx", "model.json")
    found += [name for name in files if (one.path / name).read_bytes() != (other.path / name).read_bytes()]
    first, second = (_arrays(run.best_weights) for run in (one, other))
    if first.keys() != second.keys() or not all(np.array_equal(first[name], second[name]) for name in first):
        found.append("the best weights")
    names = [{path.name for path in run.path.iterdir() if path.name[0] != "."} for run in (one, other)]
    found += sorted(names[0] ^ names[1])
    return found if (other.path / PAGE).exists() else [*found, "no report"]


def _record(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.record.to_json().items() if name not in OF_THE_CLOCK}


def _arrays(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def _checkpoint(path: Path) -> None:
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST_BYTES:]).hexdigest().encode() != content[:DIGEST_BYTES]:
        raise ValueError("its checksum does not hold")


def _table(path: Path) -> None:
    with path.open(newline="") as file:
        head, *rows = list(csv.reader(file))
    if any(len(row) != len(head) for row in rows):
        raise ValueError("it has a row of another length")
    if path.name == "history.csv" and (head[0] != "epoch" or not all(float(cell) >= 0 for row in rows for cell in row)):
        raise ValueError("it has no epochs")


def _page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it breaks off")


CHECKS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": _table,
    ".onnx": read_model,
    ".h5": _arrays,
    ".html": _page,
    ".png": lambda path: Image.open(path).load(),
    ".checkpoint": _checkpoint,
}
"""Raise an exception for a file that is not whole, by its suffix."""
