"""An exported file says what the trained model says, and a file that does not never gets its name."""

import json
import shutil
import socket
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
from cifarnet.errors import ConfigError, ModelError, ParityError, RunError
from cifarnet.evaluation import predict
from cifarnet.export import Bars, export_run, exporting, import_weights
from cifarnet.export.contract import describe
from cifarnet.export.file import serialise
from cifarnet.export.gate import extreme_images, file_heads, keras_heads, prove
from cifarnet.export.writer import write_graph
from cifarnet.inspection import inspect_model
from cifarnet.job import Job
from cifarnet.model import build_model, get_weights, set_weights
from cifarnet.run import Run
from cifarnet.runtime import Classifier
from cifarnet.spec import CONTRACT_KEY, Dataset
from cifarnet.training import Silent, carry_out, load_best, start

MODEL = ModelConfig(filters=(8, 8), dense_units=(32,), dropout=0.1)
TRAINING = TrainConfig(epochs=4, schedule_epochs=4, learning_rate=5e-3, weight_decay=0.01, batch_size=10)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic(train=1000, test=200)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> Run:
    """A finished run that has learned most of its classes, so that there is something to lose."""
    job = Job(recipe="seed", model=MODEL, train=TRAINING, source="synthetic")
    run = start(job, dataset, tmp_path_factory.mktemp("whole"))
    assert carry_out(run, dataset, Silent())["metrics"]["test"]["accuracy"] > 0.6
    return run


@pytest.fixture
def run(whole, tmp_path) -> Run:
    """A copy of the finished run, to write into."""
    return Run(shutil.copytree(whole.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def contract(whole):
    return describe(whole.read_record(), "float32")


@pytest.fixture(scope="module")
def network(whole):
    """The network with the weights of its best epoch."""
    return load_best(whole)


def test_the_file_in_the_run_folder_classifies_as_the_trained_model_was_recorded_to(run, dataset):
    exported = export_run(run, dataset)
    assert exported.path == run.path / "model.onnx"
    classifier = Classifier(exported.path)
    is_right = classifier.probabilities(dataset.test.images).argmax(axis=1) == dataset.test.labels
    assert is_right.mean() == run.read_record()["metrics"]["test"]["accuracy"] == exported.parity.accuracy
    assert classifier.labels == dataset.labels


def test_beside_the_file_lie_its_contract_and_what_was_measured(run, dataset):
    exported = export_run(run, dataset)
    beside = json.loads((run.path / "model.json").read_text())
    assert beside == Classifier(exported.path).contract
    assert beside["proof"]["images"] == len(dataset.test)
    measured = json.loads((run.path / "model.parity.json").read_text())
    assert measured["backend"] == keras.config.backend()
    assert [check["name"] for check in measured["checks"]] == beside["proof"]["checks"]
    assert (
        max(check["probability_difference"] for check in measured["checks"]) <= beside["proof"]["bars"]["probability"]
    )


def test_the_same_run_gives_the_same_bytes_without_time_path_or_host(run, dataset, tmp_path):
    first, again = (export_run(run, dataset, output=tmp_path / name / "model.onnx") for name in ("a", "b"))
    content = first.path.read_bytes()
    assert (first.sha256, content) == (again.sha256, again.path.read_bytes())
    started = run.read_record()["started"]
    for secret in (str(tmp_path), started, started[:10], f'"{socket.gethostname()}"'):
        assert secret.encode() not in content


def test_the_weights_come_back_bit_for_bit_and_give_the_same_file_again(run, network, dataset):
    content = export_run(run, dataset).path.read_bytes()
    config, weights = import_weights(run.path / "model.onnx")
    again = build_model(config, seed=99)
    set_weights(again, weights)
    for path, array in get_weights(network).items():
        np.testing.assert_array_equal(get_weights(again)[path], array, strict=True)
    contract = json.loads((run.path / "model.json").read_text())
    assert serialise(write_graph(again), contract) == content


def test_the_graph_has_no_node_that_does_nothing_and_is_named_after_the_layers(network, contract):
    model = onnx.load_from_string(serialise(write_graph(network), contract))
    operators = [each.op_type for each in model.graph.node]
    assert operators == [
        *("Transpose", "Cast", "Mul", "Add", "Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Flatten"),
        *("Gemm", "Relu", "Gemm", "Softmax"),
    ]
    assert [each.name for each in model.graph.initializer] == [
        *("rescale/scale", "rescale/offset", "conv_1/kernel", "conv_1/bias", "conv_2/kernel", "conv_2/bias"),
        *("dense_1/kernel", "dense_1/bias", "logits/kernel", "logits/bias"),
    ]
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    assert known == {output for each in model.graph.node for output in each.output}
    assert (model.ir_version, [each.version for each in model.opset_import]) == (8, [17])


def test_the_reference_evaluator_of_onnx_agrees(network, contract, dataset):
    images = dataset.test.images[:8]
    model = onnx.load_from_string(serialise(write_graph(network), contract))
    found = np.stack(ReferenceEvaluator(model).run(None, {"images": images}), axis=1)
    # Measured: 1e-6 and less on logits of up to 10.
    np.testing.assert_allclose(found, keras_heads(network)(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": "valid", "kernel_size": 5},
        {"pixel_range": "unit"},
        {"convolutions_per_block": 2, "filters": (4, 6), "dense_units": (8, 8)},
        {"image_shape": (31, 17, 3), "filters": (4, 4)},
        {"classes": 3, "kernel_size": 1},
    ],
)
def test_whatever_build_model_makes_can_be_proven(contract, changes):
    config = replace(MODEL, **changes)
    model = build_model(config, seed=1)
    of_config = contract | {"labels": [f"class {index}" for index in range(config.classes)]}
    of_config["input"] = contract["input"] | {"shape": ["batch", *config.image_shape]}
    of_config["resize"] = contract["resize"] | dict(zip(("height", "width"), config.image_shape[:2], strict=True))
    content = serialise(write_graph(model), of_config)
    images = extreme_images(config.image_shape)
    trained, exported = (predict(heads, images) for heads in (keras_heads(model), file_heads(content, optimised=True)))
    np.testing.assert_allclose(exported[:, 1], trained[:, 1], rtol=0, atol=Bars().probability)


# What the gate must refuse


def change(graph, name, function):
    """Replace an initializer by a function of its values."""
    (tensor,) = (each for each in graph.initializer if each.name == name)
    changed = function(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed, np.float32), name))


def node(graph, name):
    (found,) = (each for each in graph.node if each.name == name)
    return found


def perturbed(kernel):
    kernel.flat[kernel.size // 2] += 0.01
    return kernel


def keras_rows(kernel):
    height, width, channels = MODEL.feature_shape
    return kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)


def leave_dropout_on(graph):
    constants = {"ratio": np.array(0.5, np.float32), "training": np.array(1, np.bool_)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    before = node(graph, "dense_1/relu")
    dropout = helper.make_node("Dropout", ["dense_1/relu", "ratio", "training"], ["kept"], name="dropout", seed=1)
    graph.node.insert(list(graph.node).index(before) + 1, dropout)
    node(graph, "logits").input[0] = "kept"


def pad_at_the_end(graph):
    (pads,) = (each for each in node(graph, "conv_1").attribute if each.name == "pads")
    pads.ints[:] = [0, 0, 2, 2]


MUTATIONS = {
    "swapped channels": lambda graph: change(graph, "conv_1/kernel", lambda kernel: kernel[:, ::-1]),
    "missing /255": lambda graph: change(graph, "rescale/scale", np.ones_like),
    "permuted labels": lambda graph: change(graph, "logits/kernel", lambda kernel: np.roll(kernel, 1, axis=1)),
    "transposed kernel": lambda graph: change(graph, "conv_1/kernel", lambda kernel: kernel.swapaxes(2, 3)),
    "one perturbed weight": lambda graph: change(graph, "conv_1/kernel", perturbed),
    "wrong padding side": pad_at_the_end,
    "unshuffled dense rows": lambda graph: change(graph, "dense_1/kernel", keras_rows),
    "dropout left on": leave_dropout_on,
    "not a number": lambda graph: change(graph, "logits/bias", lambda bias: np.full_like(bias, np.nan)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_file_is_refused_and_never_gets_its_name(run, dataset, monkeypatch, mutation):
    def write_wrongly(*arguments):
        graph = write_graph(*arguments)
        MUTATIONS[mutation](graph)
        return graph

    monkeypatch.setattr(exporting, "write_graph", write_wrongly)
    with pytest.raises(ParityError, match=r"a probability differs by \S+ \(image \d+\) and \d+ of \d+ images change"):
        export_run(run, dataset)
    assert not list(run.path.glob("model*"))


def test_the_gate_holds_the_accuracy_to_the_image(network, contract, dataset):
    content = serialise(write_graph(network), contract)
    trained = keras_heads(network)
    assert prove(trained, content, dataset.test, Bars()).images == len(dataset.test)

    def one_wrong(images):
        heads = trained(images)
        heads[0] = np.roll(heads[0], 1, axis=-1)
        return heads

    with pytest.raises(ParityError):
        prove(one_wrong, content, dataset.test, Bars())
    untrained = serialise(write_graph(build_model(MODEL, seed=5)), contract)
    with pytest.raises(ParityError, match=r"the file has an accuracy of \d+\.\d\d %, the trained model"):
        prove(trained, untrained, dataset.test, Bars(probability=1, accuracy_drop=0.01))


# What cannot be exported


def test_a_layer_of_another_kind_is_refused_by_name():
    images = keras.Input((32, 32, 3), dtype="uint8")
    model = keras.Model(images, keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D(name="mean")(images)))
    with pytest.raises(ModelError, match="mean is a GlobalAveragePooling2D, which cannot be exported; expected one of"):
        write_graph(model)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(4, 3, strides=2, name="odd_one"),
        keras.layers.Conv2D(4, 2, padding="same", name="odd_one"),
        keras.layers.Conv2D(4, 3, activation="gelu", name="odd_one"),
        keras.layers.MaxPooling2D(3, name="odd_one"),
    ],
)
def test_settings_that_the_writer_does_not_know_are_refused_by_name(layer):
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.Softmax()(keras.layers.Flatten()(layer(images))))
    with pytest.raises(ModelError, match=rf"odd_one is a {type(layer).__name__} that cannot be exported; expected "):
        write_graph(model)


def test_a_network_with_branches_is_refused():
    images = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(images)
    one, other = keras.layers.Dense(3)(flat), keras.layers.Dense(3, name="branch")(flat)
    model = keras.Model(images, keras.layers.Softmax()(keras.layers.Add()([one, other])))
    with pytest.raises(ModelError, match="does not follow the layer before it"):
        write_graph(model)


def test_batch_normalisation_is_folded_into_the_convolution_before_it(contract):
    images = keras.Input((32, 32, 3), dtype="uint8", name="images")
    features = keras.layers.Rescaling(1 / 255, name="rescale")(images)
    features = keras.layers.Conv2D(4, 3, use_bias=False, name="conv_1")(features)
    features = keras.layers.ReLU(name="relu_1")(keras.layers.BatchNormalization(name="norm_1")(features))
    features = keras.layers.Dense(10, name="logits")(keras.layers.Flatten(name="flatten")(features))
    model = keras.Model(images, keras.layers.Softmax(name="probabilities")(features))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        low = -0.02 if variable.path.endswith("kernel") else 0.5  # a variance is positive
        variable.assign(rng.uniform(low, low + 0.04, tuple(variable.shape)))
    graph = write_graph(model)
    assert "BatchNormalization" not in [each.op_type for each in graph.node]
    pictures = extreme_images((32, 32, 3))
    found = file_heads(serialise(graph, contract), optimised=True)(pictures)
    np.testing.assert_allclose(found, keras_heads(model)(pictures), rtol=0, atol=Bars().probability)


def test_a_run_without_best_weights_cannot_be_exported(run, dataset):
    run.best_weights.unlink()
    with pytest.raises(RunError, match="has no best weights yet"):
        export_run(run, dataset)


def test_other_images_than_those_of_the_run_prove_nothing(run, dataset):
    with pytest.raises(RunError, match="the images have the fingerprint"):
        export_run(run, replace(dataset, test=dataset.train))


@pytest.mark.parametrize(("precision", "max_drop"), [("bfloat16", 0.0), ("int8", -0.1), ("int8", float("nan"))])
def test_a_precision_or_a_drop_outside_its_range_is_refused(run, dataset, precision, max_drop):
    with pytest.raises(ConfigError, match="expected one of float32, float16, int8 and a fraction"):
        export_run(run, dataset, precision=precision, max_drop=max_drop)


# Smaller files


@pytest.mark.parametrize(("precision", "suffix", "share"), [("float16", ".fp16", 0.6), ("int8", ".int8", 0.45)])
def test_a_smaller_file_is_smaller_and_says_what_it_is(run, dataset, precision, suffix, share):
    whole, small = export_run(run, dataset), export_run(run, dataset, precision=precision, max_drop=0.05)
    assert small.path == run.path / f"model{suffix}.onnx"
    assert small.size_bytes < share * whole.size_bytes
    assert Classifier(small.path).contract["precision"] == precision
    assert [latency.batch_size for latency in small.latencies] == [1, 256]
    assert min(latency.microseconds for latency in small.latencies) > 0
    # As many multiplications, whatever they are done in.
    assert inspect_model(small.path).multiply_adds == inspect_model(whole.path).multiply_adds
    with pytest.raises(ModelError, match=f"holds {precision} weights; expected float32"):
        import_weights(small.path)


def test_int8_that_loses_too_much_is_refused(run, dataset, monkeypatch):
    def spoiled(*arguments):
        for variant in quantised(*arguments):
            node(variant.graph, "logits").input[0] = node(variant.graph, "dense_1/relu").input[0]
            yield variant

    quantised = exporting.quantised
    monkeypatch.setattr(exporting, "quantised", spoiled)
    with pytest.raises(ParityError, match=r"the file has an accuracy of .* expected a drop of at most 0\.5 points"):
        export_run(run, dataset, precision="int8")
    assert not list(run.path.glob("model*"))


def test_an_inspection_counts_what_keras_counts(run, network, dataset):
    found = inspect_model(export_run(run, dataset).path)
    learned = sum(array.size for array in get_weights(network).values())
    assert found.parameters == learned + 2  # scale and offset of the pixels
    assert found.multiply_adds == 32 * 32 * 27 * 8 + 16 * 16 * 72 * 8 + 512 * 32 + 32 * 10
    assert found.parity["backend"] == keras.config.backend()
    assert found.contract["proof"]["accuracy"] == run.read_record()["metrics"]["test"]["accuracy"]


def test_the_contract_is_json_in_the_metadata_of_the_file(run, dataset):
    model = onnx.load(export_run(run, dataset).path)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["Image.BitmapPixelFormat"] == "Rgb8"
    assert json.loads(metadata[CONTRACT_KEY])["labels"] == list(dataset.labels)
