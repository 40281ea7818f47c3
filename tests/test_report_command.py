"""`cifarnet report` of an exported run, without a framework: the path of the page, or one error line."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.data import load_dataset
from cifarnet.errors import RunError
from cifarnet.evaluation.target import file_target
from cifarnet.report import CARD, PAGE, report_run
from tests.processes import printed
from tests.records import document, put
from tests.report_runs import run_of
from tests.runtime import models

COLORS = {"a red": (200, 10, 10), "b green": (10, 200, 10), "c blue": (10, 10, 200)}
"""Classes in the order of the tiny model and of the folder names."""
PROGRAM = """
import sys
from cifarnet.cli import main
sys.argv = ["cifarnet", "report"]
try:
    main()
finally:
    print(*sorted({"keras", "jax", "torch", "tensorflow"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder of images of one color each; one test image per class has the color of another class."""
    folder = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 2), ("test", 5)):
        for index, label in enumerate(COLORS):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                shown = [*COLORS.values()][index - (number == 0)]
                Image.fromarray(np.full((32, 32, 3), shown, np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture
def run(photos, tmp_path):
    dataset = load_dataset(str(photos))
    made = run_of(tmp_path / "runs" / "mine", dataset)
    record = document(made)
    put(made, record | {"data": record["data"] | {"source": str(photos)}})
    made.best_weights.touch()
    made.model.write_bytes(models.content(contract=models.contract(labels=list(COLORS), training={})))
    return made


@pytest.fixture
def report(typed, monkeypatch, tmp_path):
    """Return a function that runs ``cifarnet report`` and returns exit code and lines of stderr.

    It draws no figures, which take a second.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifarnet.report.draw_figures", lambda *_: {})
    monkeypatch.setattr("cifarnet.report.draw_curves", lambda *_: None)

    def report(*arguments):
        code, _, stderr = typed("report", *arguments)
        return code, stderr.splitlines()

    return report


def test_an_exported_run_is_reported_without_a_framework(run, tmp_path):
    page, frameworks = printed("-c", PROGRAM, cwd=tmp_path).splitlines()
    assert (page, frameworks) == (str(Path("runs") / "mine" / PAGE), "")
    assert (tmp_path / page).read_text().startswith("<!doctype html>")
    assert "test/a red/0.png" in (tmp_path / page).read_text()  # shown in the color of another class
    assert "80.00%" in (run.path / CARD).read_text().replace("\u00a0", " ")  # one image of five has another color


def test_an_edited_card_is_kept_and_that_is_said(report, run):
    for edit in (None, "", "by hand"):  # written anew, replaced, kept
        if edit is not None:
            (run.path / CARD).write_text((run.path / CARD).read_text() + edit)
        before = (run.path / CARD).stat().st_ino if edit is not None else None
        code, stderr = report()
        assert (code, any("MODELCARD.md was edited and stays as it is" in line for line in stderr)) == (0, bool(edit))
        assert ((run.path / CARD).stat().st_ino == before) == bool(edit)
    assert (run.path / CARD).read_text().endswith("by hand")


def test_best_weights_that_are_replaced_during_the_evaluation_are_refused(run, photos):
    target = file_target(run.model, run)

    def load_predictor():
        run.best_weights.write_bytes(b"of a later epoch")
        return target.load_predictor()

    with pytest.raises(RunError, match="has new best weights since its evaluation began; expected the same: report it"):
        report_run(run, replace(target, load_predictor=load_predictor), load_dataset(photos))
    assert not (run.path / PAGE).exists()


def test_changed_images_are_refused_and_so_is_a_page_that_cannot_be_written(report, run, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    (copy / "test" / "a red" / "0.png").unlink()
    before = sorted(path.name for path in run.path.iterdir())
    code, stderr = report("mine", "--data", copy)
    assert code == 1
    assert re.fullmatch(r"error: the images have the fingerprint .*; expected .*: restore .*", stderr[-1])
    assert sorted(path.name for path in run.path.iterdir()) == before
    (run.path / PAGE).mkdir()
    code, stderr = report()
    assert code == 1
    assert stderr[-1].startswith(f"error: runs/mine/{PAGE} cannot be written (Is a directory); expected a folder")
    assert sorted(path.name for path in run.path.iterdir()) == sorted([*before, PAGE])


def test_an_export_of_another_epoch_is_refused(report, run):
    stale = models.contract(labels=list(COLORS), training={"best_epoch": 3})
    for changes, way_out in (
        ({"flip": True}, "cifarnet export runs/mine --onnx --tta 2"),
        ({"views": 6}, "--onnx --tta 6"),
        ({}, "runs/mine --onnx"),
    ):
        run.model.write_bytes(models.content(contract=stale | changes))
        code, stderr = report()
        assert (code, len(stderr)) == (1, 1)
        assert "model.onnx is not the export of this run's best weights: its best_epoch is 3; expected 7: " in stderr[0]
        assert stderr[0].endswith(f"{way_out}`")
    assert not (run.path / PAGE).exists()
    run.model.write_bytes(models.content(contract=stale | {"training": {"best_epoch": 7}}))
    assert report()[0] == 0


def test_the_best_epoch_of_a_killed_run_is_that_of_its_history(report, run):
    results = ("best_epoch", "why_stopped")
    record = {name: value for name, value in document(run).items() if name not in results}
    put(run, record | {"status": "running"})
    for exported, expected in ((7, 0), (6, 1), (None, 1)):
        contract = models.contract(labels=list(COLORS), training={"best_epoch": exported})
        run.model.write_bytes(models.content(contract=contract))
        code, stderr = report()
        assert code == expected, exported
        assert stderr[0] == "note: runs/mine has not finished training; using its best weights so far"
    assert "its best_epoch is None; expected 7" in stderr[-1]
    assert "after epoch 7; after epoch 12 training had not finished." in (run.path / PAGE).read_text()
