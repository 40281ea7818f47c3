"""The files that each command writes, replaces or deletes are listed, and no other file is touched."""

import hashlib
import re
import tempfile
from dataclasses import replace

from cifarnet.config import ModelConfig
from cifarnet.recipes import RECIPES
from tests.photos import make_photos

TRAINED = {
    *("run.json", "history.csv", "best.weights.h5", "curves.png", ".lock"),
    *("seen.npy", "images.csv", "checkpoint", "checkpoint/NUMBER.checkpoint"),
}
EXPORTED = {"model.onnx", "model.json", "model.parity.json"}
LOCKED = {".export.lock"}
"""Of the first export into a folder."""
PICTURES = {"curves.png", "confusion.png", "reliability.png", "classes.png", "errors.png", "robustness.png"}
RUN = "runs/RUN"


def inside(folder, names):
    return {f"{folder}/{name}" for name in names}


def new(folder, names):
    return {folder} | inside(folder, names)


def called(name, names):
    return {each.replace("model", name) for each in names}


COMMANDS = [
    ("train --data photos --epochs 1", {"runs", "runs/latest"} | new(RUN, TRAINED)),
    ("train --resume latest", set()),  # there is nothing to go on with
    ("evaluate", set()),
    ("evaluate --tta 2", inside(RUN, {"run.json"})),  # a calibration that was not fitted yet
    ("inspect missing.onnx", set()),
    ("export --output runs/latest/run.onnx", set()),  # refused, as the next two
    ("export --output runs/latest/robustness.onnx", set()),
    ("export --output package.onnx", set()),
    ("export --onnx", inside(RUN, EXPORTED | LOCKED)),
    ("export --int8 --max-drop 99", inside(RUN, called("model.int8", EXPORTED))),
    ("export --output apps/other.onnx", new("apps", called("other", EXPORTED) | LOCKED)),
    ("inspect runs/latest/model.onnx", set()),
    ("evaluate runs/latest/model.onnx --data photos", set()),
    ("predict photos --model runs/latest/model.onnx --csv", set()),
    ("robustness", inside(RUN, {"robustness.json"})),
    ("report", inside(RUN, PICTURES - {"curves.png"} | {"report.html", "MODELCARD.md"})),
    (
        "reproduce --epochs 1",
        {"reproductions", "reproductions/latest"}
        | new("reproductions/RUN", TRAINED - {"curves.png"} | {"reproduction.json"}),
    ),
    ("train --data photos --epochs 1 --from latest", {"runs/latest"} | new(RUN, TRAINED | {"start.weights.h5"})),
    ("doctor --no-timing", set()),
    ("data verify", set()),
    ("data check photos", set()),
    ("data check photos --contact-sheet sheet.png", {"sheet.png"}),
]
"""Command lines in their order, and all that each may change."""

INNOCENT = (
    "notes.txt",
    "package.json",
    "model.txt",
    ".model.onnx-4711",
    ".my-notes/a",
    ".Trash-1000/b",
    "1.checkpoint",
)


def add_neighbors(folder):
    for name in INNOCENT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"version": "1.0.0"}')


def state(folder):
    """Return what is at each path below a folder: a digest, where a link leads, or nothing for a folder."""
    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*")}


def content(path):
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def changed(before, after):
    paths = before.keys() ^ after.keys() | {path for path in before if before[path] != after.get(path)}
    return {renamed(path) for path in paths}


def renamed(path):
    """Put words in the place of what has a time or a number in it."""
    path = re.sub(r"\d{8}-\d{6}-\w+-\w+(-2)?", "RUN", path)
    return re.sub(r"\d+-\d+\.checkpoint", "NUMBER.checkpoint", path)


def test_commands_change_the_files_in_the_list_and_no_others(typed, tmp_path, monkeypatch):
    folder, temporary = tmp_path / "work", tmp_path / "temporary"
    make_photos(folder / "photos", train=6, test=2)
    add_neighbors(folder)
    temporary.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    small = ModelConfig(filters=(4,), dense_units=(8,))  # the files are those of any network
    monkeypatch.setitem(RECIPES, "seed", replace(RECIPES["seed"], model=small))
    for line, listed in COMMANDS:
        for run in folder.glob("runs/2*"):
            add_neighbors(run)
            add_neighbors(run / "checkpoint")
        before = state(folder)
        _, _, talk = typed(*line.split())
        assert changed(before, state(folder)) == listed, (line, talk)
        assert not list(temporary.glob("cifarnet*")), line
