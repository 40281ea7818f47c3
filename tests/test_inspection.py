"""`cifarnet inspect` shows any file that the runtime accepts, and only its own measurements."""

import hashlib
import json
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cifarnet import pretrained
from cifarnet.errors import ModelError
from cifarnet.export.inspect import inspect_model
from cifarnet.run.folder import Run
from cifarnet.runtime import Classifier
from tests.records import FINISHED, put
from tests.runtime import models

ESCAPE = "\x1b[2J"
"""Clears a terminal."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.fixture
def inspect(typed, path):
    """Return a function that runs ``cifarnet inspect`` on a file's content and returns exit code, stdout, stderr."""

    def inspect(content, *options):
        path.write_bytes(content)
        return typed("inspect", path, *options)

    return inspect


def inspected(path, content):
    """Inspect a file that the runtime takes, too."""
    Classifier(content)
    path.write_bytes(content)
    return inspect_model(path)


def test_a_file_without_shapes_is_shown_without_them(path):
    found = inspected(path, models.content())
    assert [(each.operator, each.shape) for each in found.layers] == [
        ("Cast", ()),
        ("ReduceMean", ()),
        ("MatMul", (3,)),
        ("Softmax", (3,)),
    ]
    assert (found.parameters, found.multiply_adds) == (9, 0)
    # Of two versions of the operators the last counts, as in onnxruntime.
    assert inspected(path, models.content(domains=("ai.onnx", ""))).opset == 17


def test_a_convolution_of_unknown_shape_has_no_multiply_adds(path):
    kernel = numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "kernel")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["unused"]),
    ]
    untold = models.graph(nodes=nodes, tensors=[models.weights(), kernel])
    assert inspected(path, models.content(untold)).multiply_adds == 0
    untold.value_info.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["batch", 8, 30, 30]))
    assert inspected(path, models.content(untold)).multiply_adds == 30 * 30 * 8 * 27


def deep() -> bytes:
    graph = b""
    for _ in range(120):
        graph = models.field(1, models.field(5, models.field(6, graph)))
    return models.resealed(graph)


def with_sizes(dims: list[int]) -> bytes:
    huge = TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=dims)
    return models.content(models.graph(tensors=[models.weights(), huge]))


@pytest.mark.parametrize(
    "content",
    [models.content(domains=()), deep(), with_sizes([2**62] * 300), with_sizes([-1])],
    ids=["no version of the operators", "too deep", "sizes that no file can have", "a negative size"],
)
def test_a_file_that_cannot_be_parsed_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelError, match="use a file written"):
        inspect_model(path)


def test_a_shared_scale_is_counted_once(path):
    halves = [numpy_helper.from_array(np.zeros(4, np.int8), name) for name in ("left", "right")]
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    nodes = [helper.make_node("DequantizeLinear", [half.name, "scale"], [f"{half.name}_x"]) for half in halves]
    found = inspected(path, models.content(models.graph(nodes=nodes, tensors=[models.weights(), *halves, scale])))
    assert [layer.parameters for layer in found.layers] == [5, 5, 0, 0, 9, 0]
    assert found.parameters == 9 + 4 + 4 + 1


# Measurements


def write_record(path, **facts):
    path.with_suffix(".parity.json").write_text(json.dumps(facts))


def test_the_measurements_of_the_file_are_shown_and_those_of_another_are_not(path, inspect):
    content = models.content()
    write_record(path, sha256=hashlib.sha256(content).hexdigest(), backend="jax")
    assert inspected(path, content).parity["backend"] == "jax"
    for facts in ({"sha256": hashlib.sha256(b"another file").hexdigest()}, {}):
        write_record(path, **facts, backend="jax")
        assert inspected(path, content).parity is None
        assert "jax" not in inspect(content)[1]


# The command


def test_a_run_is_inspected_by_its_name_and_latest_is_the_newest_exported_one(typed, tmp_path):
    content = models.content(contract=models.contract(training={}))
    for name in ("10:00", "11:00", "12:00"):
        run = Run(tmp_path / name)
        run.path.mkdir()
        put(run, FINISHED | {"started": f"2026-03-04T{name}:00+00:00"})
        if name != "12:00":
            run.model.write_bytes(content)
    note = f"note: the newest run, {run}, has no exported model: `cifarnet export {run} --onnx`\n"
    for names, expected, message in (((), "11:00", note), (("latest",), "11:00", note), (("10:00",), "10:00", "")):
        code, stdout, stderr = typed("inspect", *names, "--runs", tmp_path, "--json")
        assert (code, stderr) == (0, message)
        assert json.loads(stdout)["path"] == str(tmp_path / expected / "model.onnx")
    assert "has no model.onnx; expected an exported model" in typed("inspect", "12:00", "--runs", tmp_path)[2]
    assert json.loads(typed("inspect", "--runs", tmp_path / "none", "--json")[1])["path"] == str(pretrained.MODEL)


def test_columns_are_as_wide_as_their_content_but_a_very_long_name_widens_no_other_line(inspect):
    name, identity = "dense_1/relu_and_a_name_longer_than_usual", helper.make_node("Identity", ["x"], ["y"])
    nodes = [helper.make_node("Identity", ["images"], ["x"], name=name), identity]
    code, stdout, stderr = inspect(models.content(models.graph(nodes=nodes)))
    assert (code, stderr) == (0, "")
    rows = {line.split()[0]: line for line in stdout.splitlines() if line}
    assert rows[name].startswith(f"{name}  Identity  ")
    assert rows["layer"].index("operator") == rows[name].index("Identity")
    nodes[0].name = "n" * 5000
    code, stdout, _ = inspect(models.content(models.graph(nodes=nodes)))
    assert code == 0
    assert sorted(map(len, stdout.splitlines()))[-2] < 400


def test_only_known_values_are_shown(inspect, path):
    training = {"best_epoch": 3, "why_stopped": None, "data": {"split_by": None, "fingerprint": "", "test_images": 0}}
    content = models.content(contract=models.contract(training=training, proof={"checks": [], "bars": None}))
    write_record(path, sha256=hashlib.sha256(content).hexdigest(), trained_accuracy=0.5, latencies=[])
    stdout = inspect(content)[1].splitlines()
    at = stdout.index("training")
    assert stdout[at + 1 : at + 4] == ["  best epoch        3", "  data test images  0", ""]
    assert stdout[stdout.index("parity check") + 1] == "  not verified: written without the parity check"
    assert "  trained accuracy  0.5" in stdout
    assert not any("None" in line or "latencies" in line for line in stdout)


def test_checks_and_latencies_are_tables_and_another_structure_is_accepted(inspect, path):
    content = models.content()
    numbers = {"images": 40, "probability_difference": 3.25e-07, "logit_difference": 3.8e-06, "changed_classes": 0}
    checks = [{"name": "test set, optimised", **numbers}, {"name": "batches of 1, plain", **numbers}]
    latencies = [{"batch_size": 1, "microseconds": 260.4, "float32_microseconds": 124.0}]
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "backend": "jax"}
    write_record(path, **facts, checks=checks, latencies=latencies)
    lines = inspect(content)[1].splitlines()
    assert "crop centre-square, " in next(line for line in lines if line.startswith("resize"))
    at = lines.index("checks: largest absolute difference of a probability and of a logit, and changed classes")
    assert [line.split() for line in lines[at + 1 : at + 4]] == [
        ["check", "images", "probability", "logit", "changed"],
        ["test", "set,", "optimized", "40", "3.25e-07", "3.8e-06", "0"],
        ["batches", "of", "1,", "plain", "40", "3.25e-07", "3.8e-06", "0"],
    ]
    at = lines.index("latencies: microseconds per image in one thread, compared with float32")
    assert lines[at + 1 : at + 3] == ["  batch size  microseconds  float32", "  1                    260      124"]
    for odd in ([], [5], [{"name": 1}, {"other": 2}], [{"name": {"deep": []}}], {"name": 3}, None):
        write_record(path, **facts, checks=odd)
        code, _, stderr = inspect(content)
        assert (code, stderr) == (0, "")


def test_a_contract_without_outputs_is_accepted_and_test_time_augmentation_is_shown(inspect):
    line = "TTA           logits averaged over 2 views: the image and its horizontal flip\n"
    for outputs, flip in ((..., True), ([], False), ({"logits": 5}, ...)):
        code, stdout, stderr = inspect(models.content(contract=models.contract(outputs=outputs, flip=flip)))
        assert (code, stderr, stdout.count(line)) == (0, "", int(flip is True))
        assert "MatMul" in stdout
        assert "None" not in stdout


def test_control_characters_in_a_file_and_in_its_name_are_escaped(inspect, path, typed):
    nodes = [helper.make_node("Identity", ["images"], ["x"], name=ESCAPE)]
    contract = models.contract(
        labels=["red", ESCAPE, "blue\nblue"],
        precision=ESCAPE,
        outputs={ESCAPE: {"meaning": ESCAPE}},
        training={ESCAPE: [ESCAPE], "recipe": ESCAPE},
        proof=ESCAPE,
    )
    content = models.content(models.graph(nodes=nodes), contract)
    write_record(path, sha256=hashlib.sha256(content).hexdigest(), processor=ESCAPE)
    code, stdout, stderr = inspect(content)
    assert (code, stderr) == (0, "")
    assert stdout.count("\\x1b[2J") == 10
    odd = path.rename(path.with_name(f"{ESCAPE}.onnx"))
    assert typed("inspect", odd)[1].startswith(f"file          {path.parent}/\\x1b[2J.onnx, ")
    assert all(line.isprintable() for line in stdout.split("\n"))


def test_metadata_nested_too_deeply_give_one_line(inspect):
    depth = 900 if sys.version_info < (3, 12) else 1200  # Python reads as much, but cannot write it with indents
    deep = json.dumps(models.contract(training=...))[:-1] + ', "training": ' + '{"a":' * depth + "1" + "}" * (depth + 1)
    code, stdout, stderr = inspect(models.content(contract=deep), "--json")
    assert (code, stdout) == (1, "")
    assert "model.onnx has metadata nested too deeply to print; expected that of `cifarnet export`: export" in stderr
