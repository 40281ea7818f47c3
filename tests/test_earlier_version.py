"""Runs and model files of version 0.1.0 (``tests/fixtures``) can still be used for everything."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cifarnet import Classifier
from cifarnet.data import synthetic
from tests.processes import printed

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


def said_in(folder):
    """Run every command in a copy of the stored runs; return what each said on stdout."""
    stdout = printed("-c", STORY, json.dumps(COMMANDS), cwd=folder, env=os.environ | {"KERAS_BACKEND": "torch"})
    said = json.loads(stdout.splitlines()[-1])
    assert {name: (code, talk) for name, (code, _, talk) in said.items() if code} == {}
    return {name: out for name, (_, out, _) in said.items()}


def read(path):
    return json.loads(path.read_text())


def test_stored_runs_are_evaluated_inspected_reported_exported_and_resumed_with_their_stored_results(tmp_path):
    folder, seed = shutil.copytree(STORED, tmp_path / "runs"), STORED / "seed"
    said = said_in(folder)
    trained, smaller = read(seed / "run.json")["metrics"]["test"], read(seed / "int8.parity.json")
    for name, expected in (("evaluate", trained), ("evaluate file", smaller)):
        assert json.loads(said[name])["evaluation"]["accuracy"] == pytest.approx(expected["accuracy"], abs=0.003)
    shown = json.loads(said["inspect"])
    assert (shown["contract"], shown["parity"]) == (read(seed / "model.json"), read(seed / "model.parity.json"))
    page = (folder / "seed" / "report.html").read_text()
    assert "33.60" in page
    assert "gaussian noise" in page.lower()
    for complaint in ("damaged", "missing", "is of another file", "not exported yet"):
        assert complaint not in page
    for name, stored in (("again", "seed/model"), ("fast", "fast/model")):
        assert_answers(Classifier(folder / f"{name}.onnx"), ANSWERS[f"{stored}.onnx"])
        again, before = read(folder / f"{name}.json"), read(STORED / f"{stored}.json")
        assert again.pop("proof").keys() == before.pop("proof").keys()  # its figures are this machine's
        assert json.dumps(again) == json.dumps(before)
    assert json.loads(said["resume"])["status"] == "finished"
    np.testing.assert_allclose(history(folder / "interrupted"), history(seed), rtol=1e-3)


def test_stored_model_files_give_their_stored_answers_and_the_check_refuses_others():
    for name, answers in ANSWERS.items():
        assert_answers(Classifier(STORED / name), answers)
    with pytest.raises(AssertionError):
        assert_answers(Classifier(STORED / "seed" / "int8.onnx"), ANSWERS["seed/model.onnx"])


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
