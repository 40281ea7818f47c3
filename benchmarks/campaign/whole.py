"""Whether every file below a folder is whole, as after any death and failure, and whether two runs are the same."""

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
from cifarnet.run_folder import EXPORT_LOCK, HISTORY, LOCK, RECORD, SEEN, Run
from cifarnet.runtime import read_model
from cifarnet.training.checkpoint import DIGEST_BYTES

CHANGING = ("started", "elapsed_s", "seconds_per_epoch")
"""What a run's record has of the clock."""


def problems(folder: Path) -> list[str]:
    """Name each file below ``folder`` under a name of its own, rather than a temporary one, that is not whole."""
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


def strays(folder: Path) -> list[str]:
    """Name the temporary files that were left below ``folder``; of a folder that became no run, nothing counts."""
    return sorted(
        path.name
        for path in folder.rglob(".*")
        if path.name not in (LOCK, EXPORT_LOCK) and (path.is_symlink() or not path.is_dir())
        if path.parent == folder or _is_run(path.parent)
    )


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").exists() or (folder.parent / "run.json").exists()


def _checkpoint(path: Path) -> None:
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST_BYTES:]).hexdigest().encode() != content[:DIGEST_BYTES]:
        raise ValueError("its checksum does not hold")


def _history(path: Path) -> None:
    head, *rows = list(csv.reader(path.read_text().splitlines()))
    if head[0] != "epoch" or any(len([float(cell) for cell in row]) != len(head) for row in rows):
        raise ValueError("it has a row of another length")


def _page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it breaks off")


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def differences(one: Run, other: Run) -> list[str]:
    """Name what an undisturbed run and one that died have not in common, bit for bit."""
    found = problems(other.path)
    first, second = (_steady(run) for run in (one, other))
    found += [f"{name} of {RECORD}" for name in {*first, *second} if first.get(name) != second.get(name)]
    found += [
        name
        for name in (HISTORY, SEEN, "model.onnx", "model.json")
        if (one.path / name).read_bytes() != (other.path / name).read_bytes()
    ]
    weights = [_arrays(run.best_weights) for run in (one, other)]
    if weights[0].keys() != weights[1].keys() or any(
        not np.array_equal(array, weights[1][name]) for name, array in weights[0].items()
    ):
        found.append("the best weights")
    listed = [{path.name for path in run.path.iterdir() if path.name[0] != "."} for run in (one, other)]
    found += sorted(listed[0] ^ listed[1])
    return found if (other.path / PAGE).exists() else [*found, "no report"]


def _steady(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.read_record().items() if name not in CHANGING}


def _arrays(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


CHECKS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": _history,
    ".onnx": read_model,
    ".h5": _arrays,
    ".html": _page,
    ".png": _picture,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".checkpoint": _checkpoint,
}
