"""Write the ONNX nodes of each supported Keras layer."""

from functools import partial

import keras
import numpy as np

from cifarnet.errors import ModelError
from cifarnet.model import layers

from .builder import Call, Converter, GraphBuilder, Value, array_of, channels_first, channels_last
from .kernels import (
    activated,
    batch_normalization,
    conv2d,
    dense,
    depthwise_conv2d,
    global_pooling,
    pooling,
    separable_conv2d,
)


def convert(builder: GraphBuilder, call: Call) -> Value:
    """Write the nodes of one layer and return its output. Raises ``ModelError`` for an unsupported layer."""
    kind = type(call.layer)
    if kind not in CONVERTERS:
        raise ModelError(
            f"{call.layer.name} is of type {kind.__name__}, which cannot be exported; expected one of the layers in "
            "the documentation of cifarnet.export_model: replace it"
        )
    call.require(len(call.inputs) == 1 or kind in MERGING, "one input, without a mask")
    call.require(getattr(call.layer, "quantization_mode", None) is None, "one that is not quantized")
    call.require(call.layer.compute_dtype == "float32", "one that computes in float32")
    call.require(getattr(call.layer, "data_format", "channels_last") == "channels_last", "channels last")
    return CONVERTERS[kind](builder, call)


def _rescaling(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    sizes = {1} | ({value.shape[-1]} if value.rows is None else set())
    call.require({scale.size, offset.size} <= sizes, "one scale and offset, or one for each channel")
    output, rank = value.name, len(value.shape)
    if (scale != 1).any():
        output = builder.add("Mul", f"{name}/scaled", output, builder.per_channel(f"{name}/scale", scale, rank))
    if (offset != 0).any():
        output = builder.add("Add", f"{name}/shifted", output, builder.per_channel(f"{name}/offset", offset, rank))
    return Value(output, value.shape, value.rows)


def _normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    mean, variance = array_of(layer.mean), array_of(layer.variance)
    is_per_channel = mean.size == 1 or mean.shape[-1] == mean.size == value.shape[-1]
    call.require(is_per_channel and value.rows is None and not layer.invert, "one mean and variance for each channel")
    deviation = np.maximum(np.sqrt(variance), np.float32(keras.config.epsilon()))
    rank = len(value.shape)
    centered = builder.add("Sub", f"{name}/centered", value.name, builder.per_channel(f"{name}/mean", mean, rank))
    divisor = builder.per_channel(f"{name}/deviation", deviation, rank)
    return Value(builder.add("Div", f"{name}/scaled", centered, divisor), value.shape)


def _layer_normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    axes = [layer.axis] if isinstance(layer.axis, int) else [*layer.axis]
    call.require(axes in ([-1], [len(value.shape)]), "the last axis")
    call.require(not getattr(layer, "rms_scaling", False), "no rms_scaling")  # deprecated by Keras
    channels = value.shape[-1]
    scale = np.ones(channels) if layer.gamma is None else array_of(layer.gamma)
    offset = np.zeros(channels) if layer.beta is None else array_of(layer.beta)
    constants = builder.constant(f"{name}/scale", scale), builder.constant(f"{name}/offset", offset)
    source = channels_last(builder, name, value)
    output = builder.add("LayerNormalization", f"{name}/normalized", source, *constants, epsilon=layer.epsilon)
    return channels_first(builder, name, output, call.shape)


def _zero_padding(builder: GraphBuilder, call: Call) -> Value:
    (top, bottom), (left, right) = call.layer.padding
    pads = builder.exact_constant(f"{call.name}/pads", [0, 0, top, left, 0, 0, bottom, right])
    return Value(builder.add("Pad", call.name, call.inputs[0].name, pads), call.shape)


def _cropping(builder: GraphBuilder, call: Call) -> Value:
    (top, _), (left, _) = call.layer.cropping
    height, width, _ = call.shape
    limits = {"starts": [top, left], "ends": [top + height, left + width], "axes": [2, 3]}
    constants = [builder.exact_constant(f"{call.name}/{key}", each) for key, each in limits.items()]
    return Value(builder.add("Slice", call.name, call.inputs[0].name, *constants), call.shape)


def _up_sampling(builder: GraphBuilder, call: Call) -> Value:
    modes = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    call.require(call.layer.interpolation in modes, "the interpolation nearest or bilinear")
    scales = builder.exact_constant(f"{call.name}/scales", [1, 1, *call.layer.size], np.float32)
    attributes = modes[call.layer.interpolation]
    return Value(builder.add("Resize", call.name, call.inputs[0].name, "", scales, **attributes), call.shape)


def _flatten(builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    flat = builder.add("Flatten", call.name, value.name, axis=1)
    rows = value.shape if len(value.shape) == 3 else value.rows
    return Value(flat, call.shape, rows)


def _reshape(builder: GraphBuilder, call: Call) -> Value:
    source = channels_last(builder, call.name, call.inputs[0])
    shape = builder.exact_constant(f"{call.name}/shape", [0, *call.shape])
    output = builder.add("Reshape", f"{call.name}/reshaped", source, shape)
    return channels_first(builder, call.name, output, call.shape)


def _merge(operator: str, builder: GraphBuilder, call: Call) -> Value:
    call.require(len({len(each.shape) for each in call.inputs}) == 1, "inputs with the same number of axes")
    first, *others = _plain(builder, call)
    for index, other in enumerate(others, start=1):
        name = call.name if index == len(others) else f"{call.name}/{index}"
        first = builder.add(operator, name, first, other)
    return Value(first, call.shape)


def _plain(builder: GraphBuilder, call: Call) -> list[str]:
    """Return the inputs, vectors in Keras' order."""
    return [
        value.name if value.rows is None else channels_last(builder, f"{call.name}/input_{index}", value)
        for index, value in enumerate(call.inputs)
    ]


def _concatenate(builder: GraphBuilder, call: Call) -> Value:
    rank = len(call.shape)
    axis = call.layer.axis % (rank + 1)
    call.require(axis > 0, "an axis other than the batch")
    if rank == 3:
        axis = axis % 3 + 1  # channels first
    return Value(builder.add("Concat", call.name, *_plain(builder, call), axis=axis), call.shape)


def _activation(builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    call.require(len(value.shape) in (1, 3) or call.layer.activation is not keras.activations.softmax, "an image")
    return Value(activated(builder, call, value.name).name, value.shape, value.rows)


def _relu(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    is_leaky = layer.negative_slope != 0
    is_simple = layer.threshold == 0 and not (is_leaky and layer.max_value is not None)
    call.require(is_simple, "a threshold of 0, and a maximum or a negative slope")
    if is_leaky:
        output = builder.add("LeakyRelu", name, value.name, alpha=float(layer.negative_slope))
    elif layer.max_value is not None:
        limits = builder.constant(f"{name}/min", 0.0), builder.constant(f"{name}/max", layer.max_value)
        output = builder.add("Clip", name, value.name, *limits)
    else:
        output = builder.add("Relu", name, value.name)
    return Value(output, value.shape, value.rows)


def _with_alpha(operator: str, setting: str, builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    output = builder.add(operator, call.name, value.name, alpha=float(getattr(call.layer, setting)))
    return Value(output, value.shape, value.rows)


def _softmax(builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    is_last = call.layer.axis in (-1, len(value.shape))
    call.require(is_last and len(value.shape) in (1, 3), "a softmax over the last axis")
    return Value(builder.add("Softmax", call.name, value.name, axis=1), value.shape, value.rows)


def _identity(builder: GraphBuilder, call: Call) -> Value:  # noqa: ARG001  # writes nothing
    (value,) = call.inputs
    return value


TRAINING_ONLY = (
    "ActivityRegularization",
    "AlphaDropout",
    "AugMix",
    "CutMix",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout2D",
)
"""Layers of Keras that return their input in inference. Not RandomCrop, which crops the center then."""

MERGING = frozenset((keras.layers.Add, keras.layers.Concatenate, keras.layers.Multiply))
"""Layers of several inputs."""

CONVERTERS: dict[type, Converter] = {
    keras.layers.Activation: _activation,
    keras.layers.Add: partial(_merge, "Add"),
    keras.layers.AveragePooling2D: partial(pooling, "AveragePool"),
    keras.layers.BatchNormalization: batch_normalization,
    keras.layers.Concatenate: _concatenate,
    keras.layers.Conv2D: conv2d,
    keras.layers.Cropping2D: _cropping,
    keras.layers.Dense: dense,
    keras.layers.DepthwiseConv2D: depthwise_conv2d,
    keras.layers.ELU: partial(_with_alpha, "Elu", "alpha"),
    keras.layers.Flatten: _flatten,
    keras.layers.GlobalAveragePooling2D: partial(global_pooling, "GlobalAveragePool"),
    keras.layers.GlobalMaxPooling2D: partial(global_pooling, "GlobalMaxPool"),
    keras.layers.LayerNormalization: _layer_normalization,
    keras.layers.LeakyReLU: partial(_with_alpha, "LeakyRelu", "negative_slope"),
    keras.layers.MaxPooling2D: partial(pooling, "MaxPool"),
    keras.layers.Multiply: partial(_merge, "Mul"),
    keras.layers.Normalization: _normalization,
    keras.layers.ReLU: _relu,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Reshape: _reshape,
    keras.layers.SeparableConv2D: separable_conv2d,
    keras.layers.Softmax: _softmax,
    keras.layers.UpSampling2D: _up_sampling,
    keras.layers.ZeroPadding2D: _zero_padding,
    layers.BatchNormalization: batch_normalization,
    layers.Conv2D: conv2d,
    layers.Dropout: _identity,
    layers.MaxPooling2D: partial(pooling, "MaxPool"),
} | {getattr(keras.layers, name): _identity for name in TRAINING_ONLY if hasattr(keras.layers, name)}
"""Converter of each layer class; subclasses are not included, since they may compute something else."""
