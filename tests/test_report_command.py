"""`cifarnet report` of an exported run, without a framework: the page's path, or one line that says why not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.data import load_dataset
from cifarnet.report import CARD, PAGE
from tests.records import document, put
from tests.report_runs import run_of
from tests.runtime import models

COLOURS = {"a red": (200, 10, 10), "b green": (10, 200, 10), "c blue": (10, 10, 200)}
"""In the order of the tiny model's answers, which is that of the folders' names too."""
PROGRAM = """
import sys
from cifarnet.cli import main
sys.argv = ["cifarnet", "report", *{arguments}]
try:
    main()
finally:
    print(*sorted({{"keras", "jax", "torch", "tensorflow"}} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder of pictures of one colour each; one test picture of each class has the colour of another."""
    folder = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 2), ("test", 5)):
        for index, label in enumerate(COLOURS):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                shown = [*COLOURS.values()][index - (number == 0)]
                Image.fromarray(np.full((32, 32, 3), shown, np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture
def run(photos, tmp_path):
    dataset = load_dataset(str(photos))
    made = run_of(tmp_path / "runs" / "mine", dataset)
    record = document(made)
    put(made, record | {"data": record["data"] | {"source": str(photos)}})
    made.best_weights.touch()
    made.model.write_bytes(models.content(contract=models.contract(labels=list(COLOURS))))
    return made


def report(folder, *arguments):
    """Run `cifarnet report` in a folder and return exit code, lines of stdout and lines of stderr."""
    program = PROGRAM.format(arguments=[*map(str, arguments)])
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_an_exported_run_is_reported_without_a_framework(run, tmp_path):
    code, (page, frameworks), _ = report(tmp_path)
    assert (code, page, frameworks) == (0, str(Path("runs") / "mine" / PAGE), "")
    assert (tmp_path / page).read_text().startswith("<!doctype html>")
    assert "80.00%" in (run.path / CARD).read_text().replace("\u00a0", " ")  # one picture of five is of another colour


def test_images_that_changed_are_refused_in_one_line(run, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    (copy / "test" / "a red" / "0.png").unlink()
    code, _, said = report(tmp_path, "mine", "--data", copy)
    assert code == 1
    assert re.fullmatch(r"error: the images have the fingerprint .*; expected .*: restore them, or give .*", said[-1])
    assert not (run.path / PAGE).exists()


def test_a_file_that_cannot_be_written_is_refused_before_anything_else_is(run, tmp_path):
    (run.path / PAGE).mkdir()
    before = sorted(path.name for path in run.path.iterdir())
    code, _, said = report(tmp_path)
    assert code == 1
    assert said[-1].startswith(f"error: runs/mine/{PAGE} cannot be written (Is a directory); expected a folder")
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_a_folder_without_runs_is_told_in_one_line(tmp_path):
    code, _, said = report(tmp_path)
    assert (code, len(said)) == (1, 1)
    assert said[0].startswith("error: runs holds no run; expected a folder with run.json")


def test_a_file_of_an_epoch_that_is_no_longer_the_best_is_refused_in_one_line(run, tmp_path):
    stale = models.contract(labels=list(COLOURS), training={"best_epoch": 3})
    for changes, way_out in (({"flip": True}, "cifarnet export runs/mine --onnx --tta"), ({}, "runs/mine --onnx")):
        run.model.write_bytes(models.content(contract=stale | changes))
        code, _, said = report(tmp_path)
        assert (code, len(said)) == (1, 1)
        assert "model.onnx is not the export of this run's best weights: its best_epoch is 3; expected 7: " in said[0]
        assert said[0].endswith(f"{way_out}`")
    assert not (run.path / PAGE).exists()
    run.model.write_bytes(models.content(contract=stale | {"training": {"best_epoch": 7}}))
    assert report(tmp_path)[0] == 0


def test_of_a_run_that_was_killed_the_history_tells_whose_weights_the_file_has(run, tmp_path):
    results = ("best_epoch", "why_stopped")
    record = {name: value for name, value in document(run).items() if name not in results}
    put(run, record | {"status": "running"})
    for exported, expected in ((7, 0), (6, 1), (None, 1)):
        contract = models.contract(labels=list(COLOURS), training={"best_epoch": exported})
        run.model.write_bytes(models.content(contract=contract))
        code, _, said = report(tmp_path)
        assert code == expected, exported
        assert said[0] == "note: runs/mine has not finished training; using its best weights so far"
    assert "its best_epoch is None; expected 7" in said[-1]
    assert "after epoch 7; after epoch 12 training had not finished." in (run.path / PAGE).read_text()
