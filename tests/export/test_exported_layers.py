"""Every supported Keras layer, against Keras and the ONNX reference evaluator."""

import inspect

import keras
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cifarnet.export.describe import describe_interface
from cifarnet.export.layers import TRAINING_ONLY
from cifarnet.export.parity import onnx_outputs
from cifarnet.export.writer import serialize, write_graph

layers = keras.layers
SHAPE = (9, 8, 3)
"""Odd and even sizes, so that padding differs."""
IMAGE_LAYERS = {
    "conv_strided_same": lambda: layers.Conv2D(6, 3, strides=2, padding="same"),
    "conv_strided_valid": lambda: layers.Conv2D(6, (3, 2), strides=(2, 1)),
    "conv_even_kernel_same": lambda: layers.Conv2D(6, 4, padding="same", use_bias=False),
    "conv_dilated": lambda: layers.Conv2D(6, 3, dilation_rate=2, padding="same"),
    "conv_grouped": lambda: layers.Conv2D(6, 3, groups=3),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6"),
    "depthwise_strided_same": lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
    "separable": lambda: layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2),
    "max_pooling": lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    "max_pooling_rectangle": lambda: layers.MaxPooling2D((2, 3)),
    "average_pooling_same": lambda: layers.AveragePooling2D((3, 2), strides=(2, 2), padding="same"),
    "average_pooling_valid": lambda: layers.AveragePooling2D((3, 2), strides=1),
    "normalization_alone": layers.BatchNormalization,
    "normalization_unscaled": lambda: layers.BatchNormalization(scale=False, center=False),
    "layer_normalization": layers.LayerNormalization,
    "rescaling_per_channel": lambda: layers.Rescaling([0.5, 1.0, 2.0], offset=[0.0, 1.0, -1.0]),
    "mean_and_variance": lambda: layers.Normalization(mean=[1.0, 2.0, 0.5], variance=[1.0, 4.0, 0.0]),
    "zero_padding": lambda: layers.ZeroPadding2D(((0, 1), (2, 3))),
    "cropping": lambda: layers.Cropping2D(((0, 1), (2, 1))),
    "nearest": lambda: layers.UpSampling2D((2, 3)),
    "bilinear": lambda: layers.UpSampling2D((2, 3), interpolation="bilinear"),
    "reshape": lambda: layers.Reshape((4, 18, 3)),
    "reshape_flat": lambda: layers.Reshape((-1,)),
    "dense_on_pixels": lambda: layers.Dense(4, activation="tanh"),
    "global_average_kept": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "global_max": layers.GlobalMaxPooling2D,
    "relu": layers.ReLU,
    "relu_max": lambda: layers.ReLU(max_value=1.5),
    "relu_slope": lambda: layers.ReLU(negative_slope=0.1),
    "leaky_relu": lambda: layers.LeakyReLU(negative_slope=0.2),
    "elu_layer": lambda: layers.ELU(alpha=0.7),
    "softmax_over_channels": layers.Softmax,
}


ACTIVATIONS = ("elu", "gelu", "leaky_relu", "linear", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "tanh")


def activations(x):
    return layers.Concatenate()([layers.Activation(name)(x) for name in ACTIVATIONS])


def training_only(x):
    for name in TRAINING_ONLY:
        settings = inspect.signature(getattr(layers, name)).parameters.values()
        required = [each for each in settings if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
        value = 1 if name == "RandomPosterization" else 0.5  # a number of bits
        x = getattr(layers, name)(*[value] * len(required))(x)
    return x


def branches(x):
    """Add, multiply and concatenate images and vectors, one layer used twice, a nested model."""
    convolution = layers.Conv2D(3, 1, name="logits")  # the name of an output of the file
    y = layers.Add()([x, convolution(x), convolution(layers.ReLU()(x))])
    gate = layers.Dense(3, activation="sigmoid")(layers.GlobalAveragePooling2D()(y))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 3))(gate)])
    y = layers.Concatenate()([x, y])
    y = layers.Concatenate(axis=1)([y, layers.BatchNormalization()(y)])
    inner = keras.Sequential([keras.Input(y.shape[1:]), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()])
    flat = layers.Flatten()(inner(y))
    return layers.Concatenate()([layers.Dropout(0.5)(flat), layers.BatchNormalization()(flat), gate])


def classifier(middle, *last):
    images = keras.Input(SHAPE)
    x = middle(layers.Rescaling(1 / 64, offset=-2.0)(images))
    if len(x.shape) > 2:
        x = layers.Flatten()(x)
    for layer in last or (layers.Dense(5),):
        x = layer(x)
    return randomized(keras.Model(images, x))


def randomized(model):
    """Give every weight another value, so that no bias or moving average is left out unseen."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.dtype == "float32":
            fan_in = max(1, int(np.prod(variable.shape[:-1])))
            drawn = rng.normal(0.1, 1.0, tuple(variable.shape)) / np.sqrt(fan_in)
            variable.assign(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    return model


def images():
    return np.random.default_rng(1).integers(0, 256, (4, *SHAPE), np.uint8)


def contract(model):
    return describe_interface(
        SHAPE, [f"class {index}" for index in range(max(2, model.output_shape[-1]))], calibrated=False
    )


def require_same(model, wanted, head):
    content = serialize(write_graph(model, temperature=None), contract(model))
    reference = ReferenceEvaluator(onnx.load_from_string(content)).run(None, {"images": images()})
    assert np.ptp(wanted) > 0.05  # the images differ
    for found in (onnx_outputs(content, optimized=True)(images())[:, head], reference[head]):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_a_layer_computes_what_keras_computes(name):
    model = classifier(IMAGE_LAYERS[name]())
    require_same(model, model.predict_on_batch(images()), head=0)


@pytest.mark.parametrize("middle", [activations, branches, training_only])
def test_several_layers_compute_what_keras_computes(middle):
    model = classifier(middle)
    require_same(model, model.predict_on_batch(images()), head=0)


@pytest.mark.parametrize("activation", ["in the layer", "of its own"])
def test_probabilities_are_those_of_keras(activation):
    fused, apart = [layers.Dense(5, activation="softmax")], [layers.Dense(5), layers.Activation("softmax")]
    model = classifier(layers.MaxPooling2D(4), *(fused if activation == "in the layer" else apart))
    require_same(model, model.predict_on_batch(images()), head=1)


def test_one_sigmoid_is_the_probability_of_the_second_class():
    model = classifier(layers.MaxPooling2D(4), layers.Dense(1, activation="sigmoid"))
    second = model.predict_on_batch(images())
    require_same(model, np.concatenate([1 - second, second], axis=1), head=1)


def test_a_sequential_model_around_a_nested_one_is_exported():
    inner = classifier(layers.Conv2D(4, 3, strides=2), layers.Dense(8, activation="relu"))
    model = randomized(keras.Sequential([keras.Input(SHAPE), layers.RandomFlip(), inner, layers.Dense(3)]))
    require_same(model, model.predict_on_batch(images()), head=0)
