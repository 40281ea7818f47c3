"""Runs and model files of version 0.1.0 (``tests/fixtures``) can still be used for everything."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifarnet import Classifier
from cifarnet.data import synthetic

STORED = Path(__file__).parent / "fixtures" / "0.1.0"
ANSWERS = json.loads((STORED / "answers.json").read_text())
COMMANDS = {
    "evaluate": ["evaluate", "seed", "--json"],
    "evaluate file": ["evaluate", "seed/int8.onnx", "--data", "synthetic", "--json"],
    "inspect": ["inspect", "seed/model.onnx", "--json"],
    "report": ["report", "seed"],
    "export": ["export", "seed", "--output", "again.onnx", "--json"],
    "export flip": ["export", "fast", "--tta", "2", "--output", "fast.onnx", "--json"],
    "resume": ["train", "--resume", "interrupted", "--json"],
}
STORY = """
import contextlib, io, json, sys
from cifarnet.cli import main

said = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["cifarnet", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as done:
            said[name] = [done.code or 0, out.getvalue(), err.getvalue()]
print(json.dumps(said))
"""
"""All commands in one process, so that the framework is imported once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(STORED, tmp_path_factory.mktemp("earlier") / "runs")


@pytest.fixture(scope="module")
def said(folder):
    """Run every command on a copy of the stored runs; return what each said on stdout."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, json.dumps(COMMANDS)],
        cwd=folder,
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert {name: (code, talk) for name, (code, _, talk) in said.items() if code} == {}
    return {name: out for name, (_, out, _) in said.items()}


def test_the_run_and_the_int8_file_score_as_they_did(said):
    trained = json.loads((STORED / "seed" / "run.json").read_text())["metrics"]["test"]["accuracy"]
    assert json.loads(said["evaluate"])["evaluation"]["accuracy"] == pytest.approx(trained, abs=0.003)
    smaller = json.loads((STORED / "seed" / "int8.parity.json").read_text())["accuracy"]
    assert json.loads(said["evaluate file"])["evaluation"]["accuracy"] == pytest.approx(smaller, abs=0.003)


def test_inspect_reads_the_contract_and_the_parity_record(said):
    found = json.loads(said["inspect"])
    assert found["contract"] == json.loads((STORED / "seed" / "model.json").read_text())
    assert found["parity"] == json.loads((STORED / "seed" / "model.parity.json").read_text())


def test_the_report_shows_the_run_its_parity_and_its_robustness(said, folder):
    page = (folder / "seed" / "report.html").read_text()
    assert "33.60" in page
    assert "Gaussian noise" in page or "gaussian noise" in page
    for complaint in ("damaged", "missing", "is of another file", "not exported yet"):
        assert complaint not in page


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stored_model_file_gives_its_stored_answers(name):
    assert_answers(Classifier(STORED / name), ANSWERS[name])


@pytest.mark.parametrize(("name", "stored"), [("again.onnx", "seed/model.onnx"), ("fast.onnx", "fast/model.onnx")])
def test_a_stored_run_exported_anew_gives_the_stored_answers(said, folder, name, stored):
    assert said
    assert_answers(Classifier(folder / name), ANSWERS[stored])


@pytest.mark.parametrize(("name", "stored"), [("again.json", "seed/model.json"), ("fast.json", "fast/model.json")])
def test_a_stored_run_exported_anew_says_the_same_of_itself(said, folder, name, stored):
    assert said
    again, before = (json.loads(path.read_text()) for path in (folder / name, STORED / stored))
    assert again.pop("proof").keys() == before.pop("proof").keys()  # its figures are this machine's
    assert json.dumps(again) == json.dumps(before)


def test_other_answers_are_refused_by_the_same_check():
    with pytest.raises(AssertionError):
        assert_answers(Classifier(STORED / "seed" / "int8.onnx"), ANSWERS["seed/model.onnx"])


def test_the_interrupted_run_comes_to_the_end_of_the_one_that_was_not_interrupted(said, folder):
    assert json.loads(said["resume"])["status"] == "finished"
    np.testing.assert_allclose(history(folder / "interrupted"), history(STORED / "seed"), rtol=1e-3)


def assert_answers(classifier, stored):
    """The check itself: label, every probability and the confidence of the first synthetic test images."""
    found = classifier(list(synthetic().test.images[: len(stored)]))
    assert [each.label for each in found] == [each["label"] for each in stored]
    for one, other in zip(found, stored, strict=True):
        assert dict(one.scores) == pytest.approx(other["scores"], abs=1e-5)
        assert one.confidence == pytest.approx(other["confidence"], abs=1e-5)


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])
