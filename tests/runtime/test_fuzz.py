"""Damaged images and model files end in an error of ours or in a result: no other exception, no crash, no hang.

Beside what is drawn, each test names an example of every outcome, so that what it expects does not hang on what this
version of hypothesis happens to draw.
"""

import copy
import faulthandler
import io
import json
import warnings
from collections import Counter
from contextlib import redirect_stdout

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cifarnet.apps import package_data
from cifarnet.cli import inspect as inspect_command
from cifarnet.export.inspect import Inspection, inspect_model
from cifarnet.runtime import Classifier
from tests.runtime import fuzzing, models
from tests.runtime.fuzzing import EXAMPLES, JSON, damaged, image_files, outcome, places, replaced

GRAPH = models.model().graph.SerializeToString(deterministic=True)


@pytest.fixture
def tried(request, capsys):
    """Return a counter of what became of the damaged things, which is printed at the end of the test."""
    outcomes: Counter[str] = Counter()
    yield outcomes
    with capsys.disabled():
        print(f"\n{request.node.name}: tried {outcomes.total():,}: {dict(outcomes)}")


def test_damaged_image_files(classifier, tried):
    @given(damaged(image_files()))
    @example(image_files()[0])
    @example(b"")
    def check(content):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in an app, where decoders go on after they warned
            tried[outcome(lambda: classifier(content))] += 1

    check()
    assert set(tried) - {"SizeError"} == {"Prediction", "DataError"}
    assert tried.total() >= EXAMPLES


def test_arrays_of_any_kind_as_images(classifier, tried):
    shapes = st.lists(st.one_of(st.integers(0, 5), st.just(32)), max_size=5)
    dtypes = st.sampled_from(
        ["uint8", "uint8", "uint8", "int8", "uint16", "float32", "float64", "bool", "complex64", "O"]
    )

    @given(shapes, dtypes, st.integers(0, 255))
    @example([32, 32, 3], "uint8", 0)
    @example([0], "uint8", 0)
    def check(shape, dtype, value):
        images = np.full(shape, value).astype(dtype)
        tried[outcome(lambda: (classifier([images]))[0])] += 1

    check()
    assert set(tried) == {"Prediction", "DataError"}


def test_damaged_graphs_whose_digest_agrees(painted, tried):
    """The digest keeps damage away from onnxruntime; here it is made anew, as somebody would who means harm."""

    @given(damaged([GRAPH]))
    @example(GRAPH)
    @example(b"")
    def check(graph):
        tried[outcome(lambda: Classifier(models.resealed(graph))(painted("red")))] += 1

    check()
    assert set(tried) == {"Prediction", "ModelError"}
    assert tried.total() >= EXAMPLES


def test_contracts_with_other_values(painted, tried):
    whole = models.contract(calibration=models.CALIBRATION)

    def used(content):
        classifier = Classifier(content)
        assert (classifier.temperature is None) == (classifier.contract["calibration"] is None)
        assert classifier.abstention is None or 0 <= classifier.abstention.threshold <= 1
        return classifier(painted("red", 40, 50))

    @given(st.sampled_from(places(whole)), st.one_of(JSON, st.just(...)))
    @example(("model", "note"), 1)
    @example((), ...)
    def check(path, value):
        contract = json.dumps(replaced(copy.deepcopy(whole), path, value))
        tried[outcome(lambda: used(models.content(models.graph(temperature=3.0), contract)))] += 1

    check()
    assert set(tried) == {"Prediction", "ModelError"}


# What tells of a file without running it


def inspected(path) -> Inspection:
    """Inspect a file, by the command in both of its forms too, which must be fit for a terminal."""
    for as_json in (False, True):
        with redirect_stdout(io.StringIO()) as said:
            inspect_command.command(str(path), as_json=as_json)
        assert all(line.isprintable() for line in said.getvalue().split("\n"))
    return inspect_model(path)


def test_inspecting_damaged_graphs_whose_digest_agrees(tmp_path, tried):
    path = tmp_path / "model.onnx"

    @given(damaged([GRAPH]))
    @example(GRAPH)
    @example(b"\x0a")
    def check(graph):
        path.write_bytes(models.resealed(graph))
        tried[outcome(lambda: inspected(path), Inspection)] += 1

    check()
    assert set(tried) == {"Inspection", "ModelError"}
    assert tried.total() >= EXAMPLES


def test_inspecting_contracts_with_other_values(tmp_path, tried):
    path, golden = tmp_path / "model.onnx", onnx.load(package_data() / "golden" / "model.onnx")
    whole = json.loads((package_data() / "golden" / "model.json").read_text())

    @given(st.sampled_from(places(whole)), st.one_of(JSON, st.just(...)))
    @example(("outputs",), ...)
    @example((), ...)
    def check(place, value):
        path.write_bytes(models.content(golden.graph, json.dumps(replaced(copy.deepcopy(whole), place, value))))
        tried[outcome(lambda: inspected(path), Inspection)] += 1

    check()
    assert set(tried) == {"Inspection", "ModelError"}


# The fuzzers themselves


def test_what_is_no_prediction_is_noticed_and_each_example_has_the_whole_time(monkeypatch):
    armed = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: armed.append(seconds))
    for call, error in ((lambda: 1 / 0, ZeroDivisionError), (lambda: None, AssertionError)):
        with pytest.raises(error):
            outcome(call)
    assert armed == [fuzzing.HANGING_S] * 2
