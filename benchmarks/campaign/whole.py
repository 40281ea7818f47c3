"""Whether every file below a folder is whole, as it has to be after any death and any failure."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import h5py
from PIL import Image

from cifarnet.run import LOCK
from cifarnet.runtime import read_model
from cifarnet.training.checkpoint import DIGEST_BYTES


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
        if path.name != LOCK and (path.is_symlink() or not path.is_dir())
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


def _weights(path: Path) -> None:
    with h5py.File(path) as file:
        file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


CHECKS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": _history,
    ".onnx": read_model,
    ".h5": _weights,
    ".html": _page,
    ".png": _picture,
    ".checkpoint": _checkpoint,
}
