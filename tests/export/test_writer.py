"""The graph says what the network says, and a network that the writer does not know is refused by name."""

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cifarnet.errors import ModelError
from cifarnet.evaluation.scoring import softmax
from cifarnet.export.parity import keras_outputs
from cifarnet.export.writer import write_graph


def test_the_graph_has_no_node_that_does_nothing_and_is_named_after_the_layers(content):
    model = onnx.load_from_string(content)
    operators = [each.op_type for each in model.graph.node]
    assert operators == [
        *("Transpose", "Cast", "Mul", "Add", "Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Flatten"),
        *("Gemm", "Relu", "Gemm", "Softmax", "Div", "Softmax"),
    ]
    assert [each.name for each in model.graph.initializer] == [
        *("rescale/scale", "rescale/offset", "conv_1/kernel", "conv_1/bias", "conv_2/kernel", "conv_2/bias"),
        *("dense_1/kernel", "dense_1/bias", "logits/kernel", "logits/bias", "calibrated/temperature"),
    ]
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    assert known == {output for each in model.graph.node for output in each.output}
    assert (model.ir_version, [each.version for each in model.opset_import]) == (8, [17])


def test_the_reference_evaluator_of_onnx_agrees(network, content, temperature, dataset):
    images = dataset.test.images[:8]
    *found, calibrated = ReferenceEvaluator(onnx.load_from_string(content)).run(None, {"images": images})
    trained = keras_outputs(network)(images)
    # Measured: 1e-6 and less on logits of up to 10.
    np.testing.assert_allclose(np.stack(found, axis=1), trained, rtol=0, atol=1e-5)
    np.testing.assert_allclose(calibrated, softmax(trained[:, 0], temperature), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_temperature_is_the_number_of_the_contract_in_every_precision(network, precision):
    graph = write_graph(network, precision, 1.2444)
    (constant,) = (each for each in graph.initializer if each.name == "calibrated/temperature")
    np.testing.assert_array_equal(numpy_helper.to_array(constant), np.array([1.2444], np.float32), strict=True)


def test_a_layer_of_another_kind_is_refused_by_name():
    images = keras.Input((32, 32, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.AveragePooling2D(2, name="mean")(images))
    model = keras.Model(images, keras.layers.Softmax()(features))
    with pytest.raises(ModelError, match="mean is a AveragePooling2D, which cannot be exported; expected one of"):
        write_graph(model)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(4, 3, strides=2, name="odd_one"),
        keras.layers.Conv2D(4, 2, padding="same", name="odd_one"),
        keras.layers.Conv2D(4, 3, activation="gelu", name="odd_one"),
        keras.layers.MaxPooling2D(3, name="odd_one"),
        keras.layers.BatchNormalization(name="odd_one"),
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


def test_a_normalisation_that_turns_a_channel_around_is_not_folded_through_a_pooling():
    images = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(4, 3)(images))
    features = keras.layers.Flatten()(keras.layers.BatchNormalization(name="norm")(features))
    model = keras.Model(
        images, keras.layers.Softmax(name="probabilities")(keras.layers.Dense(3, name="logits")(features))
    )
    write_graph(model)
    model.get_layer("norm").gamma.assign(np.array([1, -1, 1, 1], np.float32))
    with pytest.raises(
        ModelError, match="norm is a BatchNormalization that cannot be exported; expected a linear layer"
    ):
        write_graph(model)
