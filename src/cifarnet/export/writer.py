"""Convert Keras layers and their weights to an ONNX graph, node by node.

The graph is not traced, so the same weights give the same bytes on every backend. It transposes the input to channels
first, the layout of onnxruntime's kernels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cifarnet.contract import BATCH_DIMENSION, CALIBRATED_NAME, INPUT_NAME, LOGITS_NAME, OUTPUTS, PROBABILITIES_NAME
from cifarnet.errors import ModelError
from cifarnet.model import layers
from cifarnet.model.network import get_weights

from .builder import FLOATS, GraphBuilder

OPSET, IR_VERSION = 17, 8
"""Released in 2022: supported by deployed runtimes, and has every operator used here."""
GRAPH_NAME = "cifarnet"


def write_graph(
    model: keras.Model, precision: str = "float32", temperature: float = 1.0, *, flip: bool = False
) -> onnx.GraphProto:
    """Return the graph of a sequential network that ends in a softmax, as built by ``build_model``.

    Its input is ``images`` uint8 (batch, height, width, channels), its outputs are ``logits``, ``probabilities`` and
    ``calibrated`` float32 (batch, classes); the last is the softmax of the logits divided by ``temperature``, above 0.
    ``precision`` is float32 or float16, used in between. ``flip`` averages the logits over each image and its mirror
    image. Raises ``ModelError`` with the name of the first unsupported layer.
    """
    builder = GraphBuilder(get_weights(model), precision, flip)
    for layer in _chain(model):
        _converter(layer)(builder, layer)
    _require_softmax(builder, model)
    _calibrated(builder, temperature)
    return _graph(builder, model)


def _chain(model: keras.Model) -> list[keras.layers.Layer]:
    first, *rest = model.layers
    if not isinstance(first, keras.layers.InputLayer) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{model.name} does not have one input and one output; expected a sequence of layers: use build_model"
        )
    value = model.inputs[0]
    for layer in rest:
        if layer.input is not value:
            raise ModelError(
                f"{layer.name} does not follow the layer before it; expected a sequence of layers: use build_model"
            )
        value = layer.output
    return list(model.layers)


def _converter(layer: keras.layers.Layer) -> Callable[[GraphBuilder, Any], None]:
    if type(layer) not in CONVERTERS:
        known = ", ".join(sorted({kind.__name__ for kind in CONVERTERS}))
        raise ModelError(
            f"{layer.name} is a {type(layer).__name__}, which cannot be exported; expected one of {known}: "
            "use a network that build_model makes"
        )
    return CONVERTERS[type(layer)]


def _require(layer: Any, holds: bool, expected: str) -> None:  # noqa: FBT001  # reads as a sentence
    if not holds:
        raise ModelError(
            f"{layer.name} is a {type(layer).__name__} that cannot be exported; expected {expected}: "
            "use a network that build_model makes"
        )


def _input(builder: GraphBuilder, layer: Any) -> None:
    builder.shape = tuple(layer.batch_shape[1:])
    builder.add("Transpose", "channels_first", perm=[0, 3, 1, 2])  # before the cast, while a pixel is one byte
    if builder.flip:
        images = builder.value
        # Reverses the columns, the fourth axis.
        reverse = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [3], "steps": [-1]}
        builder.add(
            "Slice", "mirrored", *(builder.int64_constant(f"mirrored/{key}", each) for key, each in reverse.items())
        )
        builder.add("Concat", "both", images, axis=0)
    builder.add("Cast", "pixels", to=FLOATS[builder.precision][0])


def _rescaling(builder: GraphBuilder, layer: Any) -> None:
    _require(layer, np.isscalar(layer.scale) and np.isscalar(layer.offset), "one scale and one offset")
    if layer.scale != 1:
        builder.add("Mul", f"{layer.name}/scaled", builder.constant(f"{layer.name}/scale", layer.scale))
    if layer.offset != 0:
        builder.add("Add", f"{layer.name}/shifted", builder.constant(f"{layer.name}/offset", layer.offset))


def _conv2d(builder: GraphBuilder, layer: Any) -> None:
    size, other = layer.kernel_size
    is_plain = (layer.strides, layer.dilation_rate, layer.groups) == ((1, 1), (1, 1), 1)
    is_symmetric = layer.padding == "valid" or size % 2 == 1  # padding is symmetric
    _require(
        layer,
        is_plain and is_symmetric and size == other,
        "a square kernel at stride 1, odd for same padding",
    )
    kernel = builder.weights[f"{layer.name}/kernel"].transpose(3, 2, 0, 1)
    pad = size // 2 if layer.padding == "same" else 0
    constants = [builder.constant(f"{layer.name}/kernel", kernel), _bias(builder, layer, kernel.shape[0])]
    builder.add("Conv", layer.name, *constants, kernel_shape=[size, size], pads=[pad] * 4)
    height, width, _ = builder.shape
    builder.shape = (height - size + 1 + 2 * pad, width - size + 1 + 2 * pad, kernel.shape[0])
    _activation(builder, layer)


def _bias(builder: GraphBuilder, layer: Any, width: int) -> str:
    bias = builder.weights[f"{layer.name}/bias"] if layer.use_bias else np.zeros(width)
    return builder.constant(f"{layer.name}/bias", bias)


def _activation(builder: GraphBuilder, layer: Any) -> None:
    # Compared by identity, since keras.activations.serialize imports TensorFlow if it is installed.
    is_relu = layer.activation is keras.activations.relu
    _require(layer, is_relu or layer.activation is keras.activations.linear, "the activation linear or relu")
    if is_relu:
        builder.add("Relu", f"{layer.name}/relu")


def _batch_normalization(builder: GraphBuilder, layer: Any) -> None:
    scale, offset = _affine(builder.weights, layer)
    before = builder.nodes[-1]
    if before.op_type == "MaxPool" and (scale > 0).all():  # an increasing function commutes with max pooling
        before = builder.nodes[-2]
    is_linear = before.op_type in ("Conv", "Gemm") and layer.axis in (-1, 3)
    _require(layer, is_linear, "a linear layer before it, or max pooling in between and positive scales")
    kernel, bias = f"{before.name}/kernel", f"{before.name}/bias"
    # Folded in float64 and rounded once. Filters are the first axis of a kernel, units the last of a dense matrix.
    builder.constants[kernel] = builder.constants[kernel] * (
        scale if before.op_type == "Gemm" else scale[:, None, None, None]
    )
    builder.constants[bias] = builder.constants[bias] * scale + offset


def _affine(weights: Mapping[str, NDArray[np.float32]], layer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and offset, float64 (channels,), of a normalization layer in inference."""
    variables = {path: array.astype(np.float64) for path, array in weights.items() if path.startswith(f"{layer.name}/")}
    scale = variables.get(f"{layer.name}/gamma", 1.0) / np.sqrt(
        variables[f"{layer.name}/moving_variance"] + layer.epsilon
    )
    return scale, variables.get(f"{layer.name}/beta", 0.0) - variables[f"{layer.name}/moving_mean"] * scale


def _relu(builder: GraphBuilder, layer: Any) -> None:
    is_plain = layer.max_value is None and layer.negative_slope == 0 and layer.threshold == 0
    _require(layer, is_plain, "a plain ReLU")
    builder.add("Relu", layer.name)


def _max_pooling(builder: GraphBuilder, layer: Any) -> None:
    is_halving = (layer.pool_size, layer.strides, layer.padding) == ((2, 2), (2, 2), "valid")
    _require(layer, is_halving, "2x2 windows at stride 2 without padding")
    builder.add("MaxPool", layer.name, kernel_shape=[2, 2], strides=[2, 2])
    height, width, channels = builder.shape
    builder.shape = (height // 2, width // 2, channels)


def _flatten(builder: GraphBuilder, layer: Any) -> None:
    height, width, channels = builder.shape
    builder.add("Flatten", layer.name, axis=1)
    builder.rows, builder.shape = (height, width, channels), (height * width * channels,)


def _global_max_pooling(builder: GraphBuilder, layer: Any) -> None:
    _global_pooling(builder, layer, "GlobalMaxPool")


def _global_average_pooling(builder: GraphBuilder, layer: Any) -> None:
    _global_pooling(builder, layer, "GlobalAveragePool")


def _global_pooling(builder: GraphBuilder, layer: Any, operator: str) -> None:
    builder.add(operator, f"{layer.name}/pooled")
    builder.add("Flatten", layer.name, axis=1)
    builder.shape = builder.shape[-1:]


def _dense(builder: GraphBuilder, layer: Any) -> None:
    kernel = builder.weights[f"{layer.name}/kernel"]
    if builder.rows is not None:
        kernel = channels_first_rows(kernel, builder.rows)
    builder.rows, builder.shape = None, (kernel.shape[1],)
    constants = [builder.constant(f"{layer.name}/kernel", kernel), _bias(builder, layer, kernel.shape[1])]
    builder.add("Gemm", layer.name, *constants)
    _activation(builder, layer)


def channels_first_rows(kernel: NDArray[np.float32], rows: tuple[int, int, int]) -> NDArray[np.float32]:
    """Permute the rows of a dense kernel (h * w * c, units) for features flattened channels first."""
    return kernel.reshape(*rows, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def _dropout(builder: GraphBuilder, layer: Any) -> None:
    """Write nothing: dropout is the identity in inference."""


def _softmax(builder: GraphBuilder, layer: Any) -> None:
    _require(layer, layer.axis == -1, "a softmax over the classes")
    if builder.precision != "float32":
        builder.nodes[-1].output[0] = builder.value = f"{LOGITS_NAME}/{builder.precision}"
        builder.add("Cast", f"{LOGITS_NAME}/widened", to=TensorProto.FLOAT)
    if builder.flip:
        builder.nodes[-1].output[0] = builder.value = f"{LOGITS_NAME}/both"
        shape = builder.int64_constant(f"{LOGITS_NAME}/shape", [2, -1, *builder.shape])
        builder.add("Reshape", f"{LOGITS_NAME}/mirrored", shape)  # the mirror images are the first half
        builder.add("ReduceMean", f"{LOGITS_NAME}/mean", axes=[0], keepdims=0)
    builder.nodes[-1].output[0] = builder.value = LOGITS_NAME
    builder.add("Softmax", PROBABILITIES_NAME, axis=-1)


CONVERTERS: dict[type, Callable[[GraphBuilder, Any], None]] = {
    keras.layers.InputLayer: _input,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Conv2D: _conv2d,
    layers.Conv2D: _conv2d,
    keras.layers.BatchNormalization: _batch_normalization,
    layers.BatchNormalization: _batch_normalization,
    keras.layers.ReLU: _relu,
    keras.layers.MaxPooling2D: _max_pooling,
    layers.MaxPooling2D: _max_pooling,
    keras.layers.GlobalMaxPooling2D: _global_max_pooling,
    keras.layers.GlobalAveragePooling2D: _global_average_pooling,
    keras.layers.Flatten: _flatten,
    keras.layers.Dense: _dense,
    keras.layers.Dropout: _dropout,
    layers.Dropout: _dropout,
    keras.layers.Softmax: _softmax,
}
"""Converter of each layer class; subclasses are not included, since they may compute something else."""


def _require_softmax(builder: GraphBuilder, model: keras.Model) -> None:
    if builder.value != PROBABILITIES_NAME:
        raise ModelError(
            f"{model.name} ends in {builder.value}; expected a softmax: use a network that build_model makes"
        )


def _calibrated(builder: GraphBuilder, temperature: float) -> None:
    # A division, not a product with the inverse: an app that divides the logits by the temperature in the contract
    # rounds the same way.
    builder.exact.append(numpy_helper.from_array(np.array([temperature], np.float32), f"{CALIBRATED_NAME}/temperature"))
    builder.value = LOGITS_NAME
    builder.add("Div", f"{CALIBRATED_NAME}/logits", f"{CALIBRATED_NAME}/temperature")
    builder.add("Softmax", CALIBRATED_NAME, axis=-1)


def _graph(builder: GraphBuilder, model: keras.Model) -> onnx.GraphProto:
    image, classes = list(model.inputs[0].shape[1:]), [model.outputs[0].shape[-1]]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_DIMENSION, *classes]) for name in OUTPUTS]
    images = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [BATCH_DIMENSION, *image])
    images.type.denotation = "IMAGE"
    return helper.make_graph(builder.nodes, GRAPH_NAME, [images], outputs, initializer=builder.initializers())
