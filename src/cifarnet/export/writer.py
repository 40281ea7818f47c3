"""From Keras layers and their weights to an ONNX graph, node by node.

Written, not traced: the same weights give the same bytes whatever framework holds them. Channels come first inside,
as onnxruntime computes, with one transpose at the input.
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

from .builder import FLOATS, Draft

OPSET, IR_VERSION = 17, 8
"""Of 2022: old enough for the runtimes that are deployed, new enough for every operator here."""
GRAPH_NAME = "cifarnet"


def write_graph(
    model: keras.Model, precision: str = "float32", temperature: float = 1.0, *, flip: bool = False
) -> onnx.GraphProto:
    """Return the graph of a chain of layers that ends in a softmax, as ``build_model`` makes it.

    Its input is ``images`` uint8 (batch, height, width, channels), its outputs ``logits``, ``probabilities`` and
    ``calibrated`` float32 (batch, classes); the last is the softmax of the logits divided by ``temperature``, above 0.
    ``precision`` (float32 or float16) is what is computed in between. With ``flip`` the logits are the mean over an
    image and its mirror image. Raises ``ModelError`` that names the first layer of another kind.
    """
    draft = Draft(get_weights(model), precision, flip)
    for layer in _chain(model):
        _converter(layer)(draft, layer)
    _require_softmax(draft, model)
    _calibrated(draft, temperature)
    return _graph(draft, model)


def _chain(model: keras.Model) -> list[keras.layers.Layer]:
    first, *rest = model.layers
    if not isinstance(first, keras.layers.InputLayer) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"{model.name} is no chain from one input to one output; expected a chain: use build_model")
    value = model.inputs[0]
    for layer in rest:
        if layer.input is not value:
            raise ModelError(
                f"{layer.name} does not follow the layer before it; expected a chain of layers: use build_model"
            )
        value = layer.output
    return list(model.layers)


def _converter(layer: keras.layers.Layer) -> Callable[[Draft, Any], None]:
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


def _input(draft: Draft, layer: Any) -> None:
    draft.shape = tuple(layer.batch_shape[1:])
    draft.add("Transpose", "channels_first", perm=[0, 3, 1, 2])  # while a pixel still is one byte
    if draft.flip:
        images = draft.value
        # From the last column down to the first, the fourth axis backwards.
        reverse = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [3], "steps": [-1]}
        draft.add("Slice", "mirrored", *(draft.whole_numbers(f"mirrored/{key}", each) for key, each in reverse.items()))
        draft.add("Concat", "both", images, axis=0)
    draft.add("Cast", "pixels", to=FLOATS[draft.precision][0])


def _rescaling(draft: Draft, layer: Any) -> None:
    _require(layer, np.isscalar(layer.scale) and np.isscalar(layer.offset), "one scale and one offset")
    if layer.scale != 1:
        draft.add("Mul", f"{layer.name}/scaled", draft.constant(f"{layer.name}/scale", layer.scale))
    if layer.offset != 0:
        draft.add("Add", f"{layer.name}/shifted", draft.constant(f"{layer.name}/offset", layer.offset))


def _conv2d(draft: Draft, layer: Any) -> None:
    size, other = layer.kernel_size
    is_plain = (layer.strides, layer.dilation_rate, layer.groups) == ((1, 1), (1, 1), 1)
    is_padded_alike = layer.padding == "valid" or size % 2 == 1  # on both sides
    _require(
        layer,
        is_plain and is_padded_alike and size == other,
        "a square kernel at stride 1, odd where the padding is same",
    )
    kernel = draft.weights[f"{layer.name}/kernel"].transpose(3, 2, 0, 1)
    pad = size // 2 if layer.padding == "same" else 0
    constants = [draft.constant(f"{layer.name}/kernel", kernel), _bias(draft, layer, kernel.shape[0])]
    draft.add("Conv", layer.name, *constants, kernel_shape=[size, size], pads=[pad] * 4)
    height, width, _ = draft.shape
    draft.shape = (height - size + 1 + 2 * pad, width - size + 1 + 2 * pad, kernel.shape[0])
    _activation(draft, layer)


def _bias(draft: Draft, layer: Any, width: int) -> str:
    bias = draft.weights[f"{layer.name}/bias"] if layer.use_bias else np.zeros(width)
    return draft.constant(f"{layer.name}/bias", bias)


def _activation(draft: Draft, layer: Any) -> None:
    # Compared by identity: Keras' own way to a name imports TensorFlow wherever that is installed.
    is_relu = layer.activation is keras.activations.relu
    _require(layer, is_relu or layer.activation is keras.activations.linear, "the activation linear or relu")
    if is_relu:
        draft.add("Relu", f"{layer.name}/relu")


def _batch_normalization(draft: Draft, layer: Any) -> None:
    scale, offset = _affine(draft.weights, layer)
    before = draft.nodes[-1]
    if before.op_type == "MaxPool" and (scale > 0).all():  # what increases leaves the largest of a window the largest
        before = draft.nodes[-2]
    is_linear = before.op_type in ("Conv", "Gemm") and layer.axis in (-1, 3)
    _require(layer, is_linear, "a linear layer before it, or a pooling in between and positive scales")
    kernel, bias = f"{before.name}/kernel", f"{before.name}/bias"
    # In float64, and rounded once. A kernel opens with its filters, a dense matrix ends with its units.
    draft.constants[kernel] = draft.constants[kernel] * (
        scale if before.op_type == "Gemm" else scale[:, None, None, None]
    )
    draft.constants[bias] = draft.constants[bias] * scale + offset


def _affine(weights: Mapping[str, NDArray[np.float32]], layer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the factor and the summand, float64 (channels,), that a normalisation is in inference."""
    own = {path: array.astype(np.float64) for path, array in weights.items() if path.startswith(f"{layer.name}/")}
    scale = own.get(f"{layer.name}/gamma", 1.0) / np.sqrt(own[f"{layer.name}/moving_variance"] + layer.epsilon)
    return scale, own.get(f"{layer.name}/beta", 0.0) - own[f"{layer.name}/moving_mean"] * scale


def _relu(draft: Draft, layer: Any) -> None:
    is_plain = layer.max_value is None and layer.negative_slope == 0 and layer.threshold == 0
    _require(layer, is_plain, "a plain rectifier")
    draft.add("Relu", layer.name)


def _max_pooling(draft: Draft, layer: Any) -> None:
    is_halving = (layer.pool_size, layer.strides, layer.padding) == ((2, 2), (2, 2), "valid")
    _require(layer, is_halving, "2x2 windows at stride 2 without padding")
    draft.add("MaxPool", layer.name, kernel_shape=[2, 2], strides=[2, 2])
    height, width, channels = draft.shape
    draft.shape = (height // 2, width // 2, channels)


def _flatten(draft: Draft, layer: Any) -> None:
    height, width, channels = draft.shape
    draft.add("Flatten", layer.name, axis=1)
    draft.rows, draft.shape = (height, width, channels), (height * width * channels,)


def _global_max_pooling(draft: Draft, layer: Any) -> None:
    _global_pooling(draft, layer, "GlobalMaxPool")


def _global_average_pooling(draft: Draft, layer: Any) -> None:
    _global_pooling(draft, layer, "GlobalAveragePool")


def _global_pooling(draft: Draft, layer: Any, operator: str) -> None:
    draft.add(operator, f"{layer.name}/pooled")
    draft.add("Flatten", layer.name, axis=1)
    draft.shape = draft.shape[-1:]


def _dense(draft: Draft, layer: Any) -> None:
    kernel = draft.weights[f"{layer.name}/kernel"]
    if draft.rows is not None:
        kernel = channels_first_rows(kernel, draft.rows)
    draft.rows, draft.shape = None, (kernel.shape[1],)
    constants = [draft.constant(f"{layer.name}/kernel", kernel), _bias(draft, layer, kernel.shape[1])]
    draft.add("Gemm", layer.name, *constants)
    _activation(draft, layer)


def channels_first_rows(kernel: NDArray[np.float32], rows: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a dense kernel (h * w * c, units) for features that were flattened with the channels first."""
    return kernel.reshape(*rows, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def _dropout(draft: Draft, layer: Any) -> None:
    """Write nothing: dropout is for training."""


def _softmax(draft: Draft, layer: Any) -> None:
    _require(layer, layer.axis == -1, "a softmax over the classes")
    if draft.precision != "float32":
        draft.nodes[-1].output[0] = draft.value = f"{LOGITS_NAME}/{draft.precision}"
        draft.add("Cast", f"{LOGITS_NAME}/widened", to=TensorProto.FLOAT)
    if draft.flip:
        draft.nodes[-1].output[0] = draft.value = f"{LOGITS_NAME}/both"
        shape = draft.whole_numbers(f"{LOGITS_NAME}/shape", [2, -1, *draft.shape])
        draft.add("Reshape", f"{LOGITS_NAME}/mirrored", shape)  # the mirror images came first
        draft.add("ReduceMean", f"{LOGITS_NAME}/mean", axes=[0], keepdims=0)
    draft.nodes[-1].output[0] = draft.value = LOGITS_NAME
    draft.add("Softmax", PROBABILITIES_NAME, axis=-1)


CONVERTERS: dict[type, Callable[[Draft, Any], None]] = {
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
"""How each kind of layer is written. By the exact class: what a subclass computes is not known here."""


def _require_softmax(draft: Draft, model: keras.Model) -> None:
    if draft.value != PROBABILITIES_NAME:
        raise ModelError(
            f"{model.name} ends in {draft.value}; expected a softmax: use a network that build_model makes"
        )


def _calibrated(draft: Draft, temperature: float) -> None:
    # Divided, not multiplied by the inverse: the constant is then the number that the contract names, and the one
    # rounding of a division is the same on every machine, for an app too that divides the logits itself.
    draft.exact.append(numpy_helper.from_array(np.array([temperature], np.float32), f"{CALIBRATED_NAME}/temperature"))
    draft.value = LOGITS_NAME
    draft.add("Div", f"{CALIBRATED_NAME}/logits", f"{CALIBRATED_NAME}/temperature")
    draft.add("Softmax", CALIBRATED_NAME, axis=-1)


def _graph(draft: Draft, model: keras.Model) -> onnx.GraphProto:
    image, classes = list(model.inputs[0].shape[1:]), [model.outputs[0].shape[-1]]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_DIMENSION, *classes]) for name in OUTPUTS]
    images = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [BATCH_DIMENSION, *image])
    images.type.denotation = "IMAGE"
    return helper.make_graph(draft.nodes, GRAPH_NAME, [images], outputs, initializer=draft.initializers())
