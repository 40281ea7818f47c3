"""Convert a Keras model and its weights to an ONNX graph, node by node, and serialize it with its contract.

The graph is not traced, so the same weights give the same bytes on every backend. It transposes the input to channels
first, the layout of onnxruntime's kernels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper

from cifarnet.arguments import described
from cifarnet.contract import (
    BATCH_DIMENSION,
    CALIBRATED_NAME,
    CONTRACT_KEY,
    IMAGE_METADATA,
    INPUT_NAME,
    LOGITS_NAME,
    OUTPUTS,
    PROBABILITIES_NAME,
    Contract,
    seal,
)
from cifarnet.errors import ModelError

from .builder import FLOATS, Call, GraphBuilder, Value
from .layers import convert

OPSET, IR_VERSION = 17, 8
"""Released in 2022: supported by deployed runtimes, and has every operator used here."""
GRAPH_NAME = PRODUCER = "cifarnet"
LINEAR = frozenset(("Gemm", "Add", "BatchNormalization", "Concat", "Flatten", "Reshape"))
"""Operators whose output is taken for logits at the end of a model."""
KEEPING = frozenset(
    ("Add", "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Reshape", "Transpose")
)
"""Operators that make no logits of what a softmax or a sigmoid returns."""


def write_graph(
    model: keras.Model, precision: str = "float32", temperature: float | None = 1.0, views: int = 1
) -> onnx.GraphProto:
    """Return the graph of a sequential or functional model that classifies images.

    Its input is ``images`` uint8 (batch, height, width, 3), its outputs are ``logits`` and ``probabilities`` float32
    (batch, classes), and, with a ``temperature`` above 0, ``calibrated``: the softmax of the logits divided by it. The
    model ends in a softmax, in a dense layer whose outputs are logits, or in one sigmoid: the probability of the second
    of two classes. ``precision`` is float32 or float16, used in between. The logits are averaged over ``views`` of each
    image, as ``with_tta`` does. Raises ``ModelError`` with the name of the first unsupported layer.
    """
    height, width, channels = image_shape(model)
    builder = GraphBuilder(precision)
    images = _input(builder, (height, width), views)
    logits = _logits(builder, model, _convert(builder, model, Value(images, (height, width, channels)), ""))
    (classes,) = logits.shape
    _outputs(builder, logits, temperature, views)
    names = [name for name in OUTPUTS if name != CALIBRATED_NAME or temperature is not None]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_DIMENSION, classes]) for name in names]
    source = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [BATCH_DIMENSION, height, width, channels])
    source.type.denotation = "IMAGE"
    return helper.make_graph(builder.nodes, GRAPH_NAME, [source], outputs, initializer=builder.initializers())


def returns_logits(model: keras.Model) -> bool:
    """Return whether a supported ``model`` returns logits rather than probabilities."""
    builder = GraphBuilder("float32")
    output = _convert(builder, model, Value(INPUT_NAME, image_shape(model)), "")
    return _logits(builder, model, output) == output


def image_shape(model: keras.Model) -> tuple[int, int, int]:
    """Return height, width and channels of the model's input. Raises ``ModelError`` for a model without such input."""
    is_graph = isinstance(model, keras.Model) and bool(getattr(model, "inputs", None)) and len(model.outputs) == 1
    if (
        not is_graph
        or isinstance(getattr(model, "output", None), dict)
        or isinstance(getattr(model, "input", None), dict)
    ):
        raise ModelError(
            f"the model is {described(model)} and not built from layers with one output; expected a "
            "keras.Sequential or functional keras.Model: call it once on images if it has no input shape yet"
        )
    shape = model.inputs[0].shape[1:]
    if len(model.inputs) != 1 or len(shape) != 3 or None in shape or shape[-1] != 3:
        shapes = ", ".join(str(tuple(each.shape)) for each in model.inputs)
        raise ModelError(f"{model.name} takes {shapes}; expected one input (None, height, width, 3): change its input")
    return tuple(shape)


def _input(builder: GraphBuilder, size: tuple[int, int], views: int) -> str:
    images = builder.add("Transpose", "channels_first", INPUT_NAME, perm=[0, 3, 1, 2])  # while a pixel is one byte
    if views == 6:
        pads = builder.exact_constant("translated/pads", [0, 0, 1, 1, 0, 0, 1, 1])
        padded = builder.add("Pad", "translated/padded", images, pads, mode="reflect")
        images = builder.add(
            "Concat", "translated", images, *(_translated(builder, padded, size, at) for at in (0, 2)), axis=0
        )
    if views > 1:
        # Reverses the columns, the fourth axis.
        reverse = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [3], "steps": [-1]}
        constants = [builder.exact_constant(f"mirrored/{key}", each) for key, each in reverse.items()]
        images = builder.add("Concat", "both", builder.add("Slice", "mirrored", images, *constants), images, axis=0)
    return builder.add("Cast", "pixels", images, to=FLOATS[builder.precision][0])


def _translated(builder: GraphBuilder, padded: str, size: tuple[int, int], first: int) -> str:
    """Return the part of the padded images from row and column ``first`` on."""
    ends = [first + length for length in size]
    parts = {"starts": [first, first], "ends": ends, "axes": [2, 3]}
    constants = [builder.exact_constant(f"translated/{first}/{key}", each) for key, each in parts.items()]
    return builder.add("Slice", f"translated/{first}", padded, *constants)


class _Recorder(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Stands for a layer in a copy of the graph, so that recording adds no call to the layer itself."""

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name)
        self.recorded = (layer,)  # in a tuple, so that Keras does not track its weights

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.recorded[0].compute_output_spec(*args, **kwargs)


@dataclass(frozen=True)
class _Recorded:
    """One call of a layer in a model."""

    layer: Any
    inputs: tuple[keras.KerasTensor, ...]
    output: Any


def _record(model: keras.Model) -> tuple[list[_Recorded], keras.KerasTensor, keras.KerasTensor]:
    """Return the calls of the layers of ``model`` in order, its input and its output."""
    calls: list[_Recorded] = []

    def call(recorder: _Recorder, *args: Any, **kwargs: Any) -> Any:
        output = recorder(*args, **kwargs)
        tensors = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, keras.KerasTensor)]
        calls.append(_Recorded(recorder.recorded[0], tuple(tensors), output))
        return output

    plain = keras.Model(model.inputs, model.outputs)  # neither compiled nor sequential
    copy = keras.models.clone_model(plain, clone_function=_recorder, call_function=call)
    return calls, copy.inputs[0], copy.outputs[0]


def _recorder(layer: Any) -> _Recorder:
    if not isinstance(layer, keras.layers.Layer):
        raise ModelError(
            f"{layer.name} is an operation ({type(layer).__name__}), which cannot be exported; expected a layer: "
            "replace it with one"
        )
    return _Recorder(layer)


def _convert(builder: GraphBuilder, model: keras.Model, images: Value, prefix: str) -> Value:
    """Write all layers of ``model``, with names that begin with ``prefix``, and return its output."""
    calls, source, target = _record(model)
    uses = Counter(id(tensor) for call in calls for tensor in call.inputs) + Counter([id(target)])
    values = {id(source): images}
    if uses[id(source)] > 1:
        builder.shared.add(images.name)
    for call, name in zip(calls, _unique_names(builder, calls, prefix), strict=True):
        inputs = tuple(values[id(tensor)] for tensor in call.inputs)
        value = _convert_call(builder, call, name, inputs)
        values[id(call.output)] = value
        if uses[id(call.output)] > 1:
            builder.shared.add(value.name)
    return values[id(target)]


def _unique_names(builder: GraphBuilder, calls: Sequence[_Recorded], prefix: str) -> list[str]:
    """Return a name for each call: that of its layer, or with a number for the second and further calls."""
    first = {call.layer.name: index for index, call in reversed([*enumerate(calls)])}
    own = {index: builder.unique(prefix + name) for name, index in first.items()}
    return [own.get(index) or builder.unique(prefix + call.layer.name) for index, call in enumerate(calls)]


def _convert_call(builder: GraphBuilder, call: _Recorded, name: str, inputs: tuple[Value, ...]) -> Value:
    if not isinstance(call.output, keras.KerasTensor):
        raise ModelError(f"{call.layer.name} has several outputs; expected one: split the model")
    shape = call.output.shape[1:]
    if None in shape:
        raise ModelError(f"{call.layer.name} has an output of unknown shape; expected a fixed one: set its input shape")
    if isinstance(call.layer, keras.Model) and getattr(call.layer, "inputs", None):
        if len(inputs) != 1:
            raise ModelError(f"{call.layer.name} is a model of {len(inputs)} inputs; expected one: split the model")
        return _convert(builder, call.layer, inputs[0], f"{name}/")
    return convert(builder, Call(name, call.layer, inputs, tuple(shape)))


def _logits(builder: GraphBuilder, model: keras.Model, output: Value) -> Value:
    """Return the logits that the output of ``model`` is computed from."""
    last: Any = builder.producer(output.name)
    is_vector = len(output.shape) == 1 and output.name not in builder.shared
    operator = last.op_type if is_vector and last else ""
    if operator in LINEAR and output.shape[0] > 1 and not _is_activated(builder, output.name):
        return output
    is_sigmoid = operator == "Sigmoid" and output.shape == (1,)
    if not is_sigmoid and (operator != "Softmax" or output.shape == (1,)):
        raise ModelError(
            f"{model.name} ends in {output.name}, of shape {output.shape}; expected a softmax, one sigmoid, or one "
            "logit per class without an activation: change the last layer; regression is not supported"
        )
    builder.nodes.remove(last)
    if not is_sigmoid:
        return Value(last.input[0], output.shape)
    pads = builder.exact_constant(f"{LOGITS_NAME}/pads", [0, 1, 0, 0])  # the logit of the first class is 0
    return Value(builder.add("Pad", f"{LOGITS_NAME}/two", last.input[0], pads), (2,))


def _is_activated(builder: GraphBuilder, value: str) -> bool:
    """Return whether a tensor holds results of a softmax or sigmoid, maybe pooled, reshaped, joined or added."""
    node = builder.producer(value)
    if node is None or node.op_type in ("Sigmoid", "Softmax"):
        return node is not None
    sources = [each for each in node.input if builder.producer(each) is not None]
    return node.op_type in KEEPING and bool(sources) and all(_is_activated(builder, each) for each in sources)


def _outputs(builder: GraphBuilder, logits: Value, temperature: float | None, views: int) -> None:
    for name in OUTPUTS.keys() - {logits.name}:
        builder.rename(name, f"{name}/layer")  # of a layer that happens to be called so
    value = logits.name
    if builder.precision != "float32":
        value = builder.rename(value, f"{LOGITS_NAME}/{builder.precision}")
        value = builder.add("Cast", f"{LOGITS_NAME}/widened", value, to=TensorProto.FLOAT)
    if views > 1:
        value = builder.rename(value, f"{LOGITS_NAME}/both")
        shape = builder.exact_constant(f"{LOGITS_NAME}/shape", [2, -1, *logits.shape])
        pairs = builder.add("Reshape", f"{LOGITS_NAME}/mirrored", value, shape)  # the flips are the first half
        value = builder.add("ReduceMean", f"{LOGITS_NAME}/mean", pairs, axes=[0], keepdims=0)
    if views == 6:
        shape = builder.exact_constant(f"{LOGITS_NAME}/translations", [3, -1, *logits.shape])
        translations = builder.add(
            "Reshape", f"{LOGITS_NAME}/translated", value, shape
        )  # the images themselves are the first
        weights = builder.exact_constant(f"{LOGITS_NAME}/weights", [[[0.5]], [[0.25]], [[0.25]]], np.float32)
        weighted = builder.add("Mul", f"{LOGITS_NAME}/weighted", translations, weights)
        axes = builder.exact_constant(f"{LOGITS_NAME}/axes", [0])
        value = builder.add("ReduceSum", f"{LOGITS_NAME}/sum", weighted, axes, keepdims=0)
    value = builder.rename(value, LOGITS_NAME)
    builder.add("Softmax", PROBABILITIES_NAME, value, axis=-1)
    if temperature is not None:
        # A division, not a product with the inverse: an app that divides the logits by the temperature in the contract
        # rounds the same way.
        divisor = builder.exact_constant(f"{CALIBRATED_NAME}/temperature", [temperature], np.float32)
        builder.add(
            "Softmax", CALIBRATED_NAME, builder.add("Div", f"{CALIBRATED_NAME}/logits", value, divisor), axis=-1
        )


def serialize(graph: onnx.GraphProto, contract: Contract, opset: int = OPSET) -> bytes:
    """Return the content of a model file: checked, with shapes and a digest. Raises ``ModelError`` for a bad graph."""
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION, producer_name=PRODUCER
    )
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported graph is not valid ({error}); expected a valid one: report it") from error
    helper.set_model_props(model, {CONTRACT_KEY: contract.text, **IMAGE_METADATA})
    content: bytes = model.SerializeToString(deterministic=True)
    return content + seal(content)
