"""The graph computes what the network computes, and an unsupported network is refused by name."""

import re

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cifarnet.errors import ModelError
from cifarnet.evaluation.scoring import softmax
from cifarnet.export.describe import describe_interface
from cifarnet.export.parity import keras_outputs
from cifarnet.export.writer import returns_logits, serialize, write_graph
from cifarnet.runtime import open_model


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


class Twice(keras.layers.Layer):
    """A layer of the person's own."""

    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Conv2DTranspose(4, 3, name="odd"), "odd is of type Conv2DTranspose, which cannot be exported"),
        (Twice(name="odd"), "odd is of type Twice, which cannot be exported"),
        (keras.layers.Conv2D(4, 3, activation="softplus", name="odd"), "expected one of the activations elu, gelu,"),
        (keras.layers.Conv2D(4, 3, activation=keras.layers.ReLU(1.0), name="odd"), "one of the activations"),
        (keras.layers.Conv2D(4, 3, data_format="channels_first", name="odd"), "expected channels last"),
        (keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="odd"), "expected one that computes in float32"),
        (keras.layers.AveragePooling2D(3, 2, padding="same", name="odd"), "padding of the same size on both sides"),
        (keras.layers.UpSampling2D(interpolation="bicubic", name="odd"), "the interpolation nearest or bilinear"),
        (keras.layers.BatchNormalization(axis=1, name="odd"), "expected the last axis"),
        (keras.layers.LayerNormalization(axis=(1, 2), name="odd"), "expected the last axis"),
        (keras.layers.Softmax(axis=1, name="odd"), "expected a softmax over the last axis"),
        (keras.layers.ReLU(threshold=1.0, name="odd"), "expected a threshold of 0"),
        (keras.layers.Rescaling(np.ones((8, 1, 3)), name="odd"), "expected one scale and offset"),
        (keras.layers.RandomCrop(4, 4, name="odd"), "odd is of type RandomCrop, which cannot be exported"),
    ],
)
def test_a_layer_that_cannot_be_exported_is_refused_by_name(layer, message):
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(layer(images))))
    with pytest.raises(ModelError, match=re.escape(message)) as error:
        write_graph(model)
    assert str(error.value).startswith("odd")


def vector(*last):
    """Return a sequential model of images that ends in the layers ``last``."""
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), *last])


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def two_inputs():
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([one, other], keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Add()([one, other]))))


def two_outputs():
    images = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, [keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)])


def nested(inner):
    """Return a model around ``inner``, called on the images as often as it has inputs."""
    images = keras.Input((8, 8, 3))
    outputs = inner([images] * len(inner.inputs))
    return keras.Model(images, outputs[0] if isinstance(outputs, list) else outputs)


def masked():
    images = keras.Input((8, 8, 3))
    mask = keras.layers.Dense(1, "sigmoid", name="mask")(images)
    return keras.Model(images, keras.layers.Flatten()(keras.layers.Softmax(name="odd")(images, mask=mask)))


def quantized():
    model = vector(keras.layers.Dense(3, name="odd"))
    model.get_layer("odd").quantize("int8")
    return model


def operation():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images * 2.0)))


def pixelwise():
    """Return a sequential model that classifies each pixel by a softmax."""
    convolution = keras.layers.Conv2D(3, 1, activation="softmax")
    return keras.Sequential([keras.Input((8, 8, 3)), convolution, keras.layers.GlobalAveragePooling2D()])


def joined(layer, activation):
    """Return a model that ends in ``layer``, of the outputs of two dense layers."""
    images = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, layer([keras.layers.Dense(2, activation)(flat) for _ in range(2)]))


LOGITS_EXPECTED = "expected a softmax, one sigmoid, or one logit per class without an activation: change the last layer"


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed, "is of type Subclassed and not built from layers with one output"),
        (lambda: keras.Sequential([keras.layers.Flatten()]), "call it once on images if it has no input shape yet"),
        (two_inputs, "expected one input (None, height, width, 3)"),
        (two_outputs, "not built from layers with one output"),
        (lambda: nested(two_inputs()), "is a model of 2 inputs; expected one: split the model"),
        (lambda: nested(two_outputs()), "has several outputs; expected one: split the model"),
        (masked, "odd, of type Softmax, cannot be exported; expected one input, without a mask"),
        (quantized, "odd, of type Dense, cannot be exported; expected one that is not quantized"),
        (operation, "is an operation (Multiply), which cannot be exported; expected a layer"),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), "takes (None, 8, 8, 1); expected"),
        (lambda: keras.Sequential([keras.Input((None, 8, 3)), keras.layers.Dense(2)]), "takes (None, None, 8, 3)"),
        (lambda: vector(keras.layers.Dense(1)), "regression is not supported"),
        (lambda: vector(keras.layers.Dense(3, "relu")), "expected a softmax, one sigmoid, or one logit per class"),
        (lambda: vector(keras.layers.Dense(3, "sigmoid")), "expected a softmax, one sigmoid, or one logit per class"),
        (
            lambda: vector(keras.layers.Dense(4, "softmax"), keras.layers.Reshape((2, 2)), keras.layers.Flatten()),
            LOGITS_EXPECTED,
        ),
        (pixelwise, LOGITS_EXPECTED),
        (lambda: joined(keras.layers.Concatenate(), "sigmoid"), LOGITS_EXPECTED),
        (lambda: joined(keras.layers.Add(), "softmax"), LOGITS_EXPECTED),
    ],
)
def test_a_model_that_is_no_classifier_of_images_is_refused(model, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        write_graph(model())


@pytest.mark.parametrize("sign", [1, -1], ids=["increasing", "decreasing"])
def test_a_normalization_is_folded_through_a_pooling_where_it_keeps_the_order(sign):
    images = keras.Input((8, 8, 3))
    features = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(4, 3)(images))
    features = keras.layers.Flatten()(keras.layers.BatchNormalization(name="norm")(features))
    model = keras.Model(images, keras.layers.Dense(3)(features))
    model.get_layer("norm").gamma.assign(np.array([1, sign, 1, 1], np.float32))
    operators = [node.op_type for node in write_graph(model).node]
    assert ("BatchNormalization" in operators) == (sign < 0)


def residual(features):
    return keras.layers.Add()([features, keras.layers.BatchNormalization()(features)])


def residual_model(features):
    """Call a nested model of ``residual``."""
    source = keras.Input(features.shape[1:])
    return keras.Model(source, residual(source))(features)


@pytest.mark.parametrize("block", [residual, residual_model])
def test_a_normalization_of_a_shared_convolution_is_not_folded(block):
    images = keras.Input((8, 8, 3))
    features = block(keras.layers.Conv2D(4, 3)(images))
    model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(features)))
    assert "BatchNormalization" in [node.op_type for node in write_graph(model).node]


@pytest.mark.parametrize("name", ["probabilities", "calibrated", "images", "logits", "pixels", "conv2d_2"])
def test_a_layer_may_have_any_name(name):
    """Also that of a node or a tensor of ours, or of the second call of another layer."""
    images = keras.Input((8, 8, 3))
    twice = keras.layers.Conv2D(3, 1, name="conv2d")
    features = keras.layers.Conv2D(3, 1, name=name)(twice(twice(images)))
    last = keras.layers.Dense(3, activation="softmax", name="last" if name == "conv2d_2" else f"{name}_2")
    content = serialize(
        write_graph(keras.Model(images, last(keras.layers.Flatten()(features)))),
        describe_interface((8, 8, 3), ["a", "b", "c"]).changed(calibration={"temperature": 1.0}),
    )
    assert open_model(content).run(np.zeros((1, 8, 8, 3), np.uint8))[1].shape == (1, 3)


def test_the_sum_of_logits_may_be_the_logits():
    assert returns_logits(joined(keras.layers.Add(), None))


def test_the_mean_over_an_image_may_be_the_logits():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(images)))
    assert returns_logits(model)


def test_recording_a_model_changes_nothing_about_it():
    model = vector(keras.layers.Dense(3, name="logits"))
    model.compile(loss=lambda _true, _found: 0.0)  # a function that Keras cannot serialize
    before, layer = model.get_config(), model.get_layer("logits")
    write_graph(model)
    assert model.get_config() == before
    assert layer.output is model.outputs[0]  # it was called once
