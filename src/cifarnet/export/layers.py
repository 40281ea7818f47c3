"""Write the ONNX nodes of each supported Keras layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import ModelError
from cifarnet.model import layers

from .activations import ACTIVATIONS, activate
from .builder import GraphBuilder, Value


@dataclass(frozen=True)
class Call:
    """One call of a layer."""

    name: str
    """Unique name for the layer's node."""
    layer: Any
    inputs: tuple[Value, ...]
    shape: tuple[int, ...]
    """Output shape for one image in Keras' layout."""

    def require(self, holds: bool, expected: str) -> None:  # noqa: FBT001  # reads as a sentence
        """Raise ``ModelError`` that names the layer unless the condition holds."""
        if not holds:
            raise ModelError(
                f"{self.layer.name} is a {type(self.layer).__name__} that cannot be exported; expected {expected}: "
                "change the layer"
            )


Converter = Callable[[GraphBuilder, Call], Value]


def convert(builder: GraphBuilder, call: Call) -> Value:
    """Write the nodes of one layer and return its output. Raises ``ModelError`` for an unsupported layer."""
    kind = type(call.layer)
    if kind not in CONVERTERS:
        raise ModelError(
            f"{call.layer.name} is a {kind.__name__}, which cannot be exported; expected one of the layers in the "
            "documentation of cifarnet.export_model: replace it"
        )
    call.require(call.layer.compute_dtype == "float32", "one that computes in float32")
    call.require(getattr(call.layer, "data_format", "channels_last") == "channels_last", "channels last")
    return CONVERTERS[kind](builder, call)


def _array(variable: Any) -> NDArray[np.float32]:
    return np.array(keras.ops.convert_to_numpy(variable), np.float32)


def _channels_last(builder: GraphBuilder, name: str, value: Value) -> str:
    """Return a tensor with the elements of ``value`` in Keras' order."""
    if len(value.shape) == 3:
        return builder.add("Transpose", f"{name}/channels_last", value.name, perm=[0, 2, 3, 1])
    if value.rows is None:
        return value.name
    height, width, channels = value.rows
    shape = builder.exact_constant(f"{name}/unflattened/shape", [0, channels, height, width])
    unflattened = builder.add("Reshape", f"{name}/unflattened", value.name, shape)
    transposed = builder.add("Transpose", f"{name}/channels_last", unflattened, perm=[0, 2, 3, 1])
    return builder.add("Flatten", f"{name}/flattened", transposed, axis=1)


def _channels_first(builder: GraphBuilder, name: str, value: str, shape: tuple[int, ...]) -> Value:
    """Return the value of a tensor in Keras' order, which has ``shape`` for one image."""
    if len(shape) == 3:
        value = builder.add("Transpose", name, value, perm=[0, 3, 1, 2])
    return Value(value, shape)


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
    mean, variance = _array(layer.mean), _array(layer.variance)
    is_per_channel = mean.size == 1 or mean.shape[-1] == mean.size == value.shape[-1]
    call.require(is_per_channel and value.rows is None and not layer.invert, "one mean and variance for each channel")
    deviation = np.maximum(np.sqrt(variance), np.float32(keras.config.epsilon()))
    rank = len(value.shape)
    centered = builder.add("Sub", f"{name}/centered", value.name, builder.per_channel(f"{name}/mean", mean, rank))
    divisor = builder.per_channel(f"{name}/deviation", deviation, rank)
    return Value(builder.add("Div", f"{name}/scaled", centered, divisor), value.shape)


def _geometry(layer: Any, kernel: tuple[int, int], shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Return the ONNX attributes of a window of ``kernel`` pixels that ``layer`` moves over images (h, w, c)."""
    strides, dilations = layer.strides, getattr(layer, "dilation_rate", (1, 1))
    pads = [_padding(*each) for each in zip(shape, kernel, strides, dilations, strict=False)]
    attributes = {"kernel_shape": [*kernel], "pads": [each // 2 for each in pads] + [-(-each // 2) for each in pads]}
    if layer.padding == "valid":
        attributes["pads"] = [0, 0, 0, 0]
    return attributes | {
        key: [*each] for key, each in (("strides", strides), ("dilations", dilations)) if tuple(each) != (1, 1)
    }


def _padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the number of pixels that "same" padding adds to an axis; the end gets the odd one."""
    return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _convolve(builder: GraphBuilder, name: str, image: str, kernel: NDArray[Any], bias: Any, **attributes: Any) -> str:
    """Write a convolution with a kernel (filters, channels, h, w) and a bias (filters,), or None for zeros."""
    zeros = np.zeros(len(kernel)) if bias is None else _array(bias)
    constants = builder.constant(f"{name}/kernel", kernel), builder.constant(f"{name}/bias", zeros)
    return builder.add("Conv", name, image, *constants, **attributes)


def _conv2d(builder: GraphBuilder, call: Call) -> Value:
    (image,), layer = call.inputs, call.layer
    attributes: dict[str, Any] = _geometry(layer, layer.kernel_size, image.shape)
    if layer.groups != 1:
        attributes["group"] = layer.groups
    kernel = _array(layer.kernel).transpose(3, 2, 0, 1)
    return _activated(builder, call, _convolve(builder, call.name, image.name, kernel, layer.bias, **attributes))


def _activated(builder: GraphBuilder, call: Call, value: str) -> Value:
    function = call.layer.activation
    call.require(function in ACTIVATIONS, f"one of the activations {', '.join(each.__name__ for each in ACTIVATIONS)}")
    return Value(activate(builder, call.name, value, function, axis=1), call.shape)


def _depthwise_conv2d(builder: GraphBuilder, call: Call) -> Value:
    return _activated(builder, call, _depthwise(builder, call, call.name, call.layer.kernel, call.layer.bias))


def _depthwise(builder: GraphBuilder, call: Call, name: str, kernel: Any, bias: Any) -> str:
    (image,), layer = call.inputs, call.layer
    channels = image.shape[-1]
    filters = _array(kernel).transpose(2, 3, 0, 1).reshape(-1, 1, *layer.kernel_size)
    attributes = _geometry(layer, layer.kernel_size, image.shape)
    return _convolve(builder, name, image.name, filters, bias, group=channels, **attributes)


def _separable_conv2d(builder: GraphBuilder, call: Call) -> Value:
    layer = call.layer
    depthwise = _depthwise(builder, call, f"{call.name}/depthwise", layer.depthwise_kernel, None)
    kernel = _array(layer.pointwise_kernel).transpose(3, 2, 0, 1)
    return _activated(
        builder, call, _convolve(builder, call.name, depthwise, kernel, layer.bias, kernel_shape=[1, 1], pads=[0] * 4)
    )


def _batch_normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer = call.inputs, call.layer
    call.require(layer.axis in (-1, len(value.shape)), "the last axis")
    scale, offset = _affine(layer)
    linear = _linear_before(builder, value.name, is_increasing=bool((scale > 0).all()))
    if linear is None:
        return _separate_normalization(builder, call)
    # Folded in float64 and rounded once. Filters are the first axis of a kernel, units the last of a dense matrix.
    kernel, bias = f"{linear.name}/kernel", f"{linear.name}/bias"
    builder.constants[kernel] = builder.constants[kernel] * (
        scale if linear.op_type == "Gemm" else scale[:, None, None, None]
    )
    builder.constants[bias] = builder.constants[bias] * scale + offset
    return value


def _affine(layer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and offset, float64 (channels,), of a normalization layer in inference."""
    mean, variance = _array(layer.moving_mean).astype(np.float64), _array(layer.moving_variance).astype(np.float64)
    scale = (1.0 if layer.gamma is None else _array(layer.gamma).astype(np.float64)) / np.sqrt(variance + layer.epsilon)
    return scale, (0.0 if layer.beta is None else _array(layer.beta).astype(np.float64)) - mean * scale


def _linear_before(builder: GraphBuilder, value: str, *, is_increasing: bool) -> Any:
    """Return the convolution or dense layer whose output, maybe max-pooled, is only normalized, or None."""
    node = None if value in builder.shared else builder.producer(value)
    if node is not None and node.op_type == "MaxPool" and is_increasing:  # an increasing function commutes with it
        return _linear_before(builder, node.input[0], is_increasing=False)
    return node if node is not None and node.op_type in ("Conv", "Gemm") else None


def _separate_normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    arrays = {
        "scale": np.ones_like(mean) if layer.gamma is None else _array(layer.gamma),
        "offset": np.zeros_like(mean) if layer.beta is None else _array(layer.beta),
        "mean": mean,
        "variance": variance,
    }
    constants = [builder.constant(f"{name}/{key}", array) for key, array in arrays.items()]
    source = value.name if len(value.shape) == 3 else _channels_last(builder, name, value)
    return Value(builder.add("BatchNormalization", name, source, *constants, epsilon=layer.epsilon), value.shape)


def _layer_normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    axes = [layer.axis] if isinstance(layer.axis, int) else [*layer.axis]
    call.require(axes in ([-1], [len(value.shape)]), "the last axis")
    channels = value.shape[-1]
    scale = np.ones(channels) if layer.gamma is None else _array(layer.gamma)
    offset = np.zeros(channels) if layer.beta is None else _array(layer.beta)
    constants = builder.constant(f"{name}/scale", scale), builder.constant(f"{name}/offset", offset)
    source = _channels_last(builder, name, value)
    output = builder.add("LayerNormalization", f"{name}/normalized", source, *constants, epsilon=layer.epsilon)
    return _channels_first(builder, name, output, call.shape)


def _pooling(operator: str) -> Converter:
    def pooling(builder: GraphBuilder, call: Call) -> Value:
        (image,), layer = call.inputs, call.layer
        attributes = _geometry(layer, layer.pool_size, image.shape)
        before, after = attributes["pads"][:2], attributes["pads"][2:]
        # On torch Keras repeats the pixels at the edge then, on the others it leaves them out of the average.
        call.require(operator == "MaxPool" or before == after, "padding of the same size on both sides")
        if before == after == [0, 0]:
            del attributes["pads"]
        return Value(builder.add(operator, call.name, image.name, **attributes), call.shape)

    return pooling


def _global_pooling(operator: str) -> Converter:
    def pooling(builder: GraphBuilder, call: Call) -> Value:
        pooled = builder.add(operator, f"{call.name}/pooled", call.inputs[0].name)
        if len(call.shape) == 1:
            pooled = builder.add("Flatten", call.name, pooled, axis=1)
        return Value(pooled, call.shape)

    return pooling


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
    source = _channels_last(builder, call.name, call.inputs[0])
    shape = builder.exact_constant(f"{call.name}/shape", [0, *call.shape])
    output = builder.add("Reshape", f"{call.name}/reshaped", source, shape)
    return _channels_first(builder, call.name, output, call.shape)


def _dense(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    call.require(len(value.shape) in (1, 3), "a vector or an image as its input")
    kernel = _array(layer.kernel)
    if len(value.shape) == 3:  # a product with the channels of each pixel
        pointwise = kernel.T[:, :, None, None]
        attributes = {"kernel_shape": [1, 1], "pads": [0] * 4}
        return _activated(builder, call, _convolve(builder, name, value.name, pointwise, layer.bias, **attributes))
    if value.rows is not None:
        kernel = channels_first_rows(kernel, value.rows)
    bias = np.zeros(kernel.shape[1]) if layer.bias is None else _array(layer.bias)
    constants = builder.constant(f"{name}/kernel", kernel), builder.constant(f"{name}/bias", bias)
    return _activated(builder, call, builder.add("Gemm", name, value.name, *constants))


def channels_first_rows(kernel: NDArray[np.float32], rows: tuple[int, int, int]) -> NDArray[np.float32]:
    """Permute the rows of a dense kernel (h * w * c, units) for features flattened channels first."""
    return kernel.reshape(*rows, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def _merge(operator: str) -> Converter:
    def merge(builder: GraphBuilder, call: Call) -> Value:
        call.require(len({len(each.shape) for each in call.inputs}) == 1, "inputs with the same number of axes")
        first, *others = _plain(builder, call)
        for index, other in enumerate(others, start=1):
            name = call.name if index == len(others) else f"{call.name}/{index}"
            first = builder.add(operator, name, first, other)
        return Value(first, call.shape)

    return merge


def _plain(builder: GraphBuilder, call: Call) -> list[str]:
    """Return the inputs, vectors in Keras' order."""
    return [
        value.name if value.rows is None else _channels_last(builder, f"{call.name}/input_{index}", value)
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
    return Value(_activated(builder, call, value.name).name, value.shape, value.rows)


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


def _leaky_relu(builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    output = builder.add("LeakyRelu", call.name, value.name, alpha=float(call.layer.negative_slope))
    return Value(output, value.shape, value.rows)


def _elu(builder: GraphBuilder, call: Call) -> Value:
    (value,) = call.inputs
    return Value(builder.add("Elu", call.name, value.name, alpha=float(call.layer.alpha)), value.shape, value.rows)


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
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
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

CONVERTERS: dict[type, Converter] = {
    keras.layers.Activation: _activation,
    keras.layers.Add: _merge("Add"),
    keras.layers.AveragePooling2D: _pooling("AveragePool"),
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Concatenate: _concatenate,
    keras.layers.Conv2D: _conv2d,
    keras.layers.Cropping2D: _cropping,
    keras.layers.Dense: _dense,
    keras.layers.DepthwiseConv2D: _depthwise_conv2d,
    keras.layers.ELU: _elu,
    keras.layers.Flatten: _flatten,
    keras.layers.GlobalAveragePooling2D: _global_pooling("GlobalAveragePool"),
    keras.layers.GlobalMaxPooling2D: _global_pooling("GlobalMaxPool"),
    keras.layers.LayerNormalization: _layer_normalization,
    keras.layers.LeakyReLU: _leaky_relu,
    keras.layers.MaxPooling2D: _pooling("MaxPool"),
    keras.layers.Multiply: _merge("Mul"),
    keras.layers.Normalization: _normalization,
    keras.layers.ReLU: _relu,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Reshape: _reshape,
    keras.layers.SeparableConv2D: _separable_conv2d,
    keras.layers.Softmax: _softmax,
    keras.layers.UpSampling2D: _up_sampling,
    keras.layers.ZeroPadding2D: _zero_padding,
    layers.BatchNormalization: _batch_normalization,
    layers.Conv2D: _conv2d,
    layers.Dropout: _identity,
    layers.MaxPooling2D: _pooling("MaxPool"),
} | {getattr(keras.layers, name): _identity for name in TRAINING_ONLY if hasattr(keras.layers, name)}
"""Converter of each layer class; subclasses are not included, since they may compute something else."""
