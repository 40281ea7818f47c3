"""A file that does not match the trained model is never published."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from cifarnet.dataset import Split
from cifarnet.errors import ParityError
from cifarnet.evaluation.scoring import predict
from cifarnet.export import export_run as exporting
from cifarnet.export.export_run import export_run
from cifarnet.export.parity import _require_accuracy, check_parity, keras_outputs
from cifarnet.export.tolerances import Tolerances, tolerances_of
from cifarnet.export.writer import serialize, write_graph
from cifarnet.model.network import build_model

from .conftest import MODEL
from .graphs import change, node


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


MISMATCH = (
    r"^the file and the trained model do not agree \([a-z0-9 ]+, (optimized|plain), first on image \d+\): "
    r"((calibrated )?probabilities differ (from the softmax of the file's own logits )?by \S+, expected at most \S+; "
    r"|\d+ of \d+ predictions change, expected none; )+usually the model lacks a keras\.layers\.Rescaling for .*: "
    r"no file was written"
)
TEMPERED = "calibrated/temperature"
OF_THE_TEMPERATURE = {
    "wrong temperature": lambda graph: change(graph, TEMPERED, lambda temperature: temperature * np.float32(1.001)),
    "temperature left out": lambda graph: change(graph, TEMPERED, np.ones_like),
    "temperature applied twice": lambda graph: change(graph, TEMPERED, np.square),
    "temperature multiplied": lambda graph: setattr(node(graph, "calibrated/logits"), "op_type", "Mul"),
    "probabilities tempered": lambda graph: node(graph, "calibrated/logits").input.__setitem__(0, "probabilities"),
}
MUTATIONS = OF_THE_TEMPERATURE | {
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


@pytest.fixture(scope="module")
def few(dataset):
    """Enough images for what is wrong with a graph to show."""
    return Split(dataset.test.images[:40], dataset.test.labels[:40])


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_graph_is_refused(network, temperature, contract, few, mutation):
    graph = write_graph(network, temperature=temperature)
    MUTATIONS[mutation](graph)
    with pytest.raises(ParityError, match=MISMATCH):
        check_parity(keras_outputs(network), serialize(graph, contract), few, Tolerances(), temperature)


def test_a_graph_that_is_right_passes_on_as_few_images(network, content, temperature, few):
    assert check_parity(keras_outputs(network), content, few, Tolerances(), temperature).images == len(few)


def test_a_wrong_file_never_gets_its_name(run, dataset, monkeypatch):
    def write_wrongly(*arguments, **settings):
        graph = write_graph(*arguments, **settings)
        MUTATIONS["one perturbed weight"](graph)
        return graph

    monkeypatch.setattr(exporting, "write_graph", write_wrongly)
    with pytest.raises(ParityError, match=MISMATCH):
        export_run(run, dataset)
    assert not list(run.path.glob("model*"))


@pytest.mark.parametrize(("views", "other"), [(1, 2), (6, 2), (2, 6)])
def test_a_file_with_other_views_than_its_contract_says_is_refused(run, dataset, monkeypatch, views, other):
    monkeypatch.setattr(exporting, "write_graph", lambda *rest, **_: write_graph(*rest, views=other))
    with pytest.raises(ParityError, match=MISMATCH):
        export_run(run, dataset, views=views)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_are_no_excuse_for_a_wrong_temperature(network, temperature, contract, few, precision):
    """The bars of smaller files are wide or none; what is done with their own logits is still exact."""
    bars = tolerances_of(precision, 0.5)
    graph = write_graph(network, "float16", temperature)
    content = serialize(graph, contract)
    assert check_parity(keras_outputs(network), content, few, bars, temperature).images == len(few)
    MUTATIONS["wrong temperature"](graph)
    with pytest.raises(
        ParityError,
        match=r"from the softmax of the file's own logits by \S+, expected at most \S+e-05; this network .*: no file",
    ):
        check_parity(keras_outputs(network), serialize(graph, contract), few, bars, temperature)


def test_below_one_a_temperature_widens_the_bars_as_it_magnifies_rounding():
    assert (Tolerances().at(1.0), Tolerances().at(20.0)) == (Tolerances(), Tolerances())
    assert Tolerances().at(0.5) == Tolerances(calibrated=2e-5, heads=2e-5)
    assert Tolerances(probability=None, calibrated=None).at(0.05) == Tolerances(
        probability=None, calibrated=None, heads=2e-4
    )


def test_a_refused_export_leaves_the_earlier_file_and_says_that_it_is_still_there(run, dataset, monkeypatch):
    export_run(run, dataset)
    before = {path.name: path.read_bytes() for path in run.path.glob("model*")}
    other = build_model(MODEL, seed=5)
    monkeypatch.setattr(exporting, "write_graph", lambda _, *rest, **settings: write_graph(other, *rest, **settings))
    with pytest.raises(ParityError, match=r"no file was written; .*model\.onnx is still the file of an earlier exp"):
        export_run(run, dataset)
    assert {path.name: path.read_bytes() for path in run.path.glob("model*")} == before


def test_the_whole_test_set_goes_through_and_parts_of_it_in_other_ways(network, content, temperature, dataset):
    parity = check_parity(keras_outputs(network), content, dataset.test, Tolerances(), temperature)
    sizes = {"batches of 1": 40, "batches of 7": 200, "batches of 30": 200, "batches of 256": 200, "extreme inputs": 66}
    parts = [(f"{name}, {word}", count) for name, count in sizes.items() for word in ("optimised", "plain")]
    assert [(check.name, check.images) for check in parity.checks] == [("test set, optimised", 200), *parts]
    assert (parity.images, parity.accuracy) == (200, parity.trained_accuracy)


@pytest.fixture
def with_one_flipped(network, dataset):
    """The trained model, but that the two best classes of one test image are exchanged; and that image's index."""
    trained = keras_outputs(network)
    is_right = predict(trained, dataset.test.images)[:, 1].argmax(axis=1) == dataset.test.labels
    index = int(np.flatnonzero(is_right)[3])

    def flipped(images):
        heads = trained(images)
        for row in np.flatnonzero((images == dataset.test.images[index]).all(axis=(1, 2, 3))):
            second, first = heads[row, 1].argsort()[-2:]
            heads[row][:, [first, second]] = heads[row][:, [second, first]]
        return heads

    return flipped, index


def test_a_changed_class_is_refused_whatever_the_probabilities(content, temperature, dataset, with_one_flipped):
    flipped, index = with_one_flipped
    with pytest.raises(
        ParityError, match=rf"first on image {index}\): 1 of 200 predictions change, expected none; usually"
    ):
        check_parity(flipped, content, dataset.test, Tolerances(probability=None, calibrated=None), temperature)


def test_the_number_of_right_answers_has_to_be_the_same(content, temperature, dataset, with_one_flipped):
    flipped, index = with_one_flipped
    exact = Tolerances(probability=None, calibrated=None, margin=None)
    loose = replace(exact, equal_accuracy=False)
    with pytest.raises(
        ParityError, match=rf"the file has an accuracy of .* first different on image {index}; expected the"
    ):
        check_parity(flipped, content, dataset.test, exact, temperature)
    assert check_parity(flipped, content, dataset.test, loose, temperature).accuracy > 0.5  # it gained an image


def test_a_loss_of_accuracy_beyond_the_bar_is_refused(network, contract, temperature, dataset):
    untrained = serialize(write_graph(build_model(MODEL, seed=5), temperature=temperature), contract)
    bars = Tolerances(probability=None, calibrated=None, margin=None, accuracy_drop=0.01, equal_accuracy=False)
    with pytest.raises(ParityError, match=r"the file has an accuracy of \d+\.\d\d%.* expected at most 1 points less"):
        check_parity(keras_outputs(network), untrained, dataset.test, bars, temperature)


@pytest.mark.parametrize("images", [200, 10_000])
@pytest.mark.parametrize("drop", [0.0, 0.005, 0.01, 0.29])
def test_a_loss_exactly_at_the_bar_is_allowed_and_one_image_more_is_not(drop, images):
    labels, allowed = np.zeros(images, np.int32), round(drop * images)
    bars = Tolerances(accuracy_drop=drop, equal_accuracy=False)

    def answers(right):
        return np.eye(2, dtype=np.float32)[(np.arange(images) >= right).astype(int)]

    for right in range(allowed, images, 97):
        _require_accuracy(answers(right), answers(right - allowed), labels, bars)
        if right > allowed:
            with pytest.raises(ParityError, match="points less"):
                _require_accuracy(answers(right), answers(right - allowed - 1), labels, bars)
