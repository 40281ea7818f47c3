"""Write the ONNX nodes of activations, of layers with a kernel or a window, and of batch normalization."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from .builder import Call, GraphBuilder, Value, array_of, channels_last


def _operator(operator: str, builder: GraphBuilder, name: str, value: str, **attributes: float) -> str:
    return builder.add(operator, name, value, **attributes)


def _linear(builder: GraphBuilder, name: str, value: str) -> str:  # noqa: ARG001  # writes nothing
    return value


def _relu6(builder: GraphBuilder, name: str, value: str) -> str:
    return builder.add("Clip", name, value, builder.constant(f"{name}/min", 0.0), builder.constant(f"{name}/max", 6.0))


def _silu(builder: GraphBuilder, name: str, value: str) -> str:
    return builder.add("Mul", name, value, builder.add("Sigmoid", f"{name}/sigmoid", value))


def _gelu(builder: GraphBuilder, name: str, value: str) -> str:
    """Write x * (1 + erf(x / sqrt(2))) / 2; the operator Gelu is newer than our opset."""
    scaled = builder.add("Div", f"{name}/scaled", value, builder.constant(f"{name}/root", [math.sqrt(2)]))
    raised = builder.add(
        "Add", f"{name}/raised", builder.add("Erf", f"{name}/erf", scaled), builder.constant(f"{name}/one", [1.0])
    )
    product = builder.add("Mul", f"{name}/product", value, raised)
    return builder.add("Mul", name, product, builder.constant(f"{name}/half", [0.5]))


ACTIVATIONS: dict[Any, Callable[[GraphBuilder, str, str], str]] = {
    keras.activations.elu: partial(_operator, "Elu"),
    keras.activations.gelu: _gelu,
    keras.activations.leaky_relu: partial(_operator, "LeakyRelu", alpha=0.2),
    keras.activations.linear: _linear,
    keras.activations.relu: partial(_operator, "Relu"),
    keras.activations.relu6: _relu6,
    keras.activations.selu: partial(_operator, "Selu"),
    keras.activations.sigmoid: partial(_operator, "Sigmoid"),
    keras.activations.silu: _silu,
    keras.activations.softmax: partial(_operator, "Softmax", axis=1),
    keras.activations.tanh: partial(_operator, "Tanh"),
}
"""Writer of each function, with Keras' default settings. It returns the output; a softmax is over the channels.

Functions are compared by identity, since ``keras.activations.serialize`` imports TensorFlow if it is installed.
"""


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
    zeros = np.zeros(len(kernel)) if bias is None else array_of(bias)
    constants = builder.constant(f"{name}/kernel", kernel), builder.constant(f"{name}/bias", zeros)
    return builder.add("Conv", name, image, *constants, **attributes)


def conv2d(builder: GraphBuilder, call: Call) -> Value:
    """Write a Conv2D."""
    (image,), layer = call.inputs, call.layer
    attributes: dict[str, Any] = _geometry(layer, layer.kernel_size, image.shape)
    if layer.groups != 1:
        attributes["group"] = layer.groups
    kernel = array_of(layer.kernel).transpose(3, 2, 0, 1)
    return activated(builder, call, _convolve(builder, call.name, image.name, kernel, layer.bias, **attributes))


def activated(builder: GraphBuilder, call: Call, value: str) -> Value:
    """Write the activation function of a layer after its ``value``."""
    function = call.layer.activation
    call.require(function in ACTIVATIONS, f"one of the activations {', '.join(each.__name__ for each in ACTIVATIONS)}")
    return Value(ACTIVATIONS[function](builder, f"{call.name}/{function.__name__}", value), call.shape)


def depthwise_conv2d(builder: GraphBuilder, call: Call) -> Value:
    """Write a DepthwiseConv2D."""
    return activated(builder, call, _depthwise(builder, call, call.name, call.layer.kernel, call.layer.bias))


def _depthwise(builder: GraphBuilder, call: Call, name: str, kernel: Any, bias: Any) -> str:
    (image,), layer = call.inputs, call.layer
    channels = image.shape[-1]
    filters = array_of(kernel).transpose(2, 3, 0, 1).reshape(-1, 1, *layer.kernel_size)
    attributes = _geometry(layer, layer.kernel_size, image.shape)
    return _convolve(builder, name, image.name, filters, bias, group=channels, **attributes)


def separable_conv2d(builder: GraphBuilder, call: Call) -> Value:
    """Write a SeparableConv2D as two convolutions."""
    layer = call.layer
    depthwise = _depthwise(builder, call, f"{call.name}/depthwise", layer.depthwise_kernel, None)
    kernel = array_of(layer.pointwise_kernel).transpose(3, 2, 0, 1)
    return activated(
        builder, call, _convolve(builder, call.name, depthwise, kernel, layer.bias, kernel_shape=[1, 1], pads=[0] * 4)
    )


def batch_normalization(builder: GraphBuilder, call: Call) -> Value:
    """Fold a BatchNormalization into the linear layer before it, or write it if there is none."""
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
    mean, variance = (array_of(each).astype(np.float64) for each in (layer.moving_mean, layer.moving_variance))
    optional = ((layer.gamma, 1.0), (layer.beta, 0.0))
    gamma, beta = (default if each is None else array_of(each).astype(np.float64) for each, default in optional)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def _linear_before(builder: GraphBuilder, value: str, *, is_increasing: bool) -> Any:
    """Return the convolution or dense layer whose output, maybe max-pooled, is only normalized, or None."""
    node = None if value in builder.shared else builder.producer(value)
    if node is not None and node.op_type == "MaxPool" and is_increasing:  # an increasing function commutes with it
        return _linear_before(builder, node.input[0], is_increasing=False)
    return node if node is not None and node.op_type in ("Conv", "Gemm") else None


def _separate_normalization(builder: GraphBuilder, call: Call) -> Value:
    (value,), layer, name = call.inputs, call.layer, call.name
    mean, variance = array_of(layer.moving_mean), array_of(layer.moving_variance)
    arrays = {
        "scale": np.ones_like(mean) if layer.gamma is None else array_of(layer.gamma),
        "offset": np.zeros_like(mean) if layer.beta is None else array_of(layer.beta),
        "mean": mean,
        "variance": variance,
    }
    constants = [builder.constant(f"{name}/{key}", array) for key, array in arrays.items()]
    source = value.name if len(value.shape) == 3 else channels_last(builder, name, value)
    return Value(builder.add("BatchNormalization", name, source, *constants, epsilon=layer.epsilon), value.shape)


def pooling(operator: str, builder: GraphBuilder, call: Call) -> Value:
    """Write a pooling layer."""
    (image,), layer = call.inputs, call.layer
    attributes = _geometry(layer, layer.pool_size, image.shape)
    before, after = attributes["pads"][:2], attributes["pads"][2:]
    # On torch Keras repeats the pixels at the edge then, on the others it leaves them out of the average.
    call.require(operator == "MaxPool" or before == after, "padding of the same size on both sides")
    if before == after == [0, 0]:
        del attributes["pads"]
    return Value(builder.add(operator, call.name, image.name, **attributes), call.shape)


def global_pooling(operator: str, builder: GraphBuilder, call: Call) -> Value:
    """Write a global pooling layer."""
    pooled = builder.add(operator, f"{call.name}/pooled", call.inputs[0].name)
    if len(call.shape) == 1:
        pooled = builder.add("Flatten", call.name, pooled, axis=1)
    return Value(pooled, call.shape)


def dense(builder: GraphBuilder, call: Call) -> Value:
    """Write a Dense layer, for an image as a convolution of 1x1 pixels."""
    (value,), layer, name = call.inputs, call.layer, call.name
    call.require(len(value.shape) in (1, 3), "a vector or an image as its input")
    kernel = array_of(layer.kernel)
    if len(value.shape) == 3:  # a product with the channels of each pixel
        pointwise = kernel.T[:, :, None, None]
        attributes = {"kernel_shape": [1, 1], "pads": [0] * 4}
        return activated(builder, call, _convolve(builder, name, value.name, pointwise, layer.bias, **attributes))
    if value.rows is not None:
        kernel = channels_first_rows(kernel, value.rows)
    bias = np.zeros(kernel.shape[1]) if layer.bias is None else array_of(layer.bias)
    constants = builder.constant(f"{name}/kernel", kernel), builder.constant(f"{name}/bias", bias)
    return activated(builder, call, builder.add("Gemm", name, value.name, *constants))


def channels_first_rows(kernel: NDArray[np.float32], rows: tuple[int, int, int]) -> NDArray[np.float32]:
    """Permute the rows of a dense kernel (h * w * c, units) for features flattened channels first."""
    return kernel.reshape(*rows, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
