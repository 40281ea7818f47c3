"""A model file is opened if it is ours, complete, unaltered and known; others are refused with a reason."""

import os
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cifarnet.contract import DIGEST_KEY, seal
from cifarnet.errors import ModelError
from cifarnet.runtime import Classifier, read_model
from cifarnet.runtime import session as module
from tests.lfs import POINTER
from tests.runtime import models
from tests.runtime.conftest import refused

WAY_OUT = "use a file written by `cifarnet export --onnx`"


# Not ours


@pytest.mark.parametrize(
    ("junk", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "; expected one: " + WAY_OUT),
        (b"\x3a\xff\xff\xff\xff\x0f", "; expected one: " + WAY_OUT),
        (POINTER, " (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)"),
    ],
)
def test_a_file_that_is_not_onnx(tmp_path, junk, message):
    (tmp_path / "x.onnx").write_bytes(junk)
    assert refused(tmp_path / "x.onnx") == f"{tmp_path}/x.onnx is no ONNX file{message}"


def test_a_path_that_cannot_be_read(tmp_path):
    assert refused("") == "the model's path is empty; expected an ONNX file: is the variable set?"
    message = "cannot be read (No such file or directory); expected an ONNX file: check the path, or "
    message += "use a file written by `cifarnet export --onnx`"
    assert refused(tmp_path / "no.onnx") == f"{tmp_path / 'no.onnx'} {message}"
    said = refused("a\0b")  # the reason is Python's, and its words change
    assert said.startswith("a\0b cannot be read (")
    assert "embedded null" in said
    assert said.endswith("; expected an ONNX file: check the path")


def test_a_folder_or_a_pipe_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", "/dev/zero"):
        assert refused(path) == f"{path} is no regular file; expected an ONNX file: check the path"
    found = refused(tmp_path)
    assert found == f"{tmp_path} is a folder; expected an ONNX file, as a run's {tmp_path}/model.onnx: name it"


def test_a_file_too_large_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    (tmp_path / "x.onnx").write_bytes(b"12345678901")
    assert refused(tmp_path / "x.onnx") == f"{tmp_path / 'x.onnx'} has 11 bytes; expected at most 10: {WAY_OUT}"


# Damaged or altered


ALTERED = f"the model does not end in the SHA-256 of its content; expected a complete, unaltered file: {WAY_OUT}"


def test_a_file_of_somebody_else_or_without_its_digest():
    bare = onnx.load_from_string(models.content())
    kept = {each.key: each.value for each in bare.metadata_props if each.key != DIGEST_KEY}
    del bare.metadata_props[:]
    helper.set_model_props(bare, kept)
    for other in (models.model(), bare):
        assert refused(other.SerializeToString()) == ALTERED
    assert refused(b"") == f"the model is no ONNX file; expected one: {WAY_OUT}"


def test_a_file_that_ends_early_or_has_a_changed_byte_anywhere():
    whole = models.content()
    content, contract = read_model(whole)
    assert (content, contract.document) == (whole, models.CONTRACT)
    for at in range(1, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        assert refused(bytes(changed)) == refused(whole[:at]) == ALTERED


def test_an_exported_file_whose_weights_were_moved_to_another(tmp_path):
    ours = onnx.load_from_string(models.content())
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(ours, tmp_path / "model.onnx", **options)
    assert (tmp_path / "weights.bin").exists()
    assert refused(tmp_path / "model.onnx") == ALTERED.replace("the model", f"{tmp_path}/model.onnx")


def test_a_sealed_file_without_a_contract_or_that_onnxruntime_does_not_know():
    bare = models.model().SerializeToString()
    assert refused(bare + seal(bare)).startswith("the model has a damaged contract (it is no JSON: ")
    nonsense = models.content(models.graph(nodes=[helper.make_node("Nonsense", ["images"], ["x"])]))
    for content in (b"\x08" * 99 + seal(b"\x08" * 99), nonsense):
        assert re.fullmatch(rf"the model is refused by onnxruntime \(.+\); {WAY_OUT}", refused(content))


# What onnxruntime finds


@pytest.mark.parametrize(
    "graph",
    [
        models.graph(batch=1),
        models.graph(batch="others"),
        models.graph(classes=4),
        models.graph(dtype=TensorProto.INT32),
    ],
    ids=["one image alone", "another name", "classes", "dtype"],
)
def test_a_graph_that_is_not_what_the_contract_says(graph):
    message = refused(models.content(graph))
    # onnxruntime itself refuses what contradicts itself
    expected = (
        r"the model (maps .*; expected \[\('images', 'tensor\(uint8\)', \['batch', 32, 32, 3\]\)\] "
        r"to \[\('logits', 'tensor\(float\)', \['batch', 3\]\)|is refused by onnxruntime \()"
    )
    assert re.match(expected, message)


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_a_file_with_a_temperature_has_the_third_output_and_one_without_has_not(painted, temperature):
    calibration = None if temperature is None else models.CALIBRATION
    whole = models.content(models.graph(temperature=temperature), models.contract(calibration=calibration))
    assert Classifier(whole)(painted("red")).label == "red"
    other = models.content(models.graph(temperature=temperature), models.contract(calibration=models.CALIBRATION))
    if temperature is not None:
        other = models.content(models.graph(temperature=temperature))
    assert re.match(r"the model maps .* to .*; expected .* to .*\('probabilities', 'tensor\(float\)'", refused(other))


def test_names_that_are_no_text(capsys):
    """Found by the fuzzer: onnxruntime raises at some of them when it loads, at others when it is asked for them."""
    whole = models.graph().SerializeToString(deterministic=True)
    for name in (b"batch", b"pixels", b"logits"):
        at = whole.rindex(name)
        message = refused(models.resealed(whole[:at] + b"\x80" + whole[at + 1 :]))
        assert message.startswith("the model is refused by onnxruntime (")
    assert capsys.readouterr() == ("", "")


def ending_in(operator: str, tensor: onnx.TensorProto, **attributes) -> onnx.GraphProto:
    """Return a graph with one more step before its logits, which onnxruntime can only judge when it runs."""
    changed = models.graph(tensors=[models.weights(), tensor])
    changed.node[2].output[0] = "plain"
    changed.node.insert(3, helper.make_node(operator, ["plain", tensor.name], ["logits"], **attributes))
    return changed


def test_a_graph_that_answers_for_fewer_images_or_stops_half_way(painted):
    first_row = numpy_helper.from_array(np.array([True]), "first")
    lazy = Classifier(models.content(ending_in("Compress", first_row, axis=0)))
    assert lazy(painted("red")).label == "red"
    with pytest.raises(ModelError, match=r"^the model returns shapes \(1, 3\); expected \(2, 3\): use"):
        lazy([painted("red"), painted("red")])
    columns = numpy_helper.from_array(np.array([0, 1, 9]), "columns")
    halting = Classifier(models.content(ending_in("Gather", columns, axis=1)))
    with pytest.raises(ModelError, match=r"^the model fails in onnxruntime \(.+\); use a file written"):
        halting(painted("red"))


def test_weights_or_a_temperature_that_are_not_finite(painted):
    cold = models.content(models.graph(temperature=np.nan), models.contract(calibration=models.CALIBRATION))
    for content in (models.content(models.graph(tensors=[models.weights(np.nan)])), cold):
        with pytest.raises(ModelError, match=r"^the model returns numbers that are not finite: train"):
            Classifier(content)(painted("red"))


def test_logits_whose_squares_overflow_are_finite(painted):
    huge = Classifier(models.content(models.graph(tensors=[models.weights(1e30)])))
    logits = huge.logits(painted("red"))
    assert np.isfinite(logits).all()
    assert abs(logits).max() > 1e25
