"""Tiny real model files made without Keras: they predict the dominant color of an image."""

import copy
import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cifarnet.contract import CONTRACT_KEY, RECIPE, seal

LABELS = ("red", "green", "blue")
CONTRACT = {
    "version": 1,
    "labels": list(LABELS),
    "input": {
        "name": "images",
        "dtype": "uint8",
        "shape": ["batch", 32, 32, 3],
        "layout": "NHWC",
        "color": "RGB",
        "range": [0, 255],
    },
    "resize": dict(RECIPE),
    "precision": "float32",
    "model": {},
}

CALIBRATION = {
    "temperature": 3.0,
    "images": 100,
    "ece_before": 0.1,
    "ece_after": 0.01,
    "loss_before": 0.9,
    "loss_after": 0.8,
    "coverage": [{"coverage": 1.0, "threshold": 0.3, "accuracy": 0.8}],
    "abstention": {"coverage": 0.7, "threshold": 0.6, "accuracy": 0.9},
    "target_accuracy": 0.9,
}


def contract(**changes: Any) -> dict[str, Any]:
    """Return the contract of ``content()``, with other values for some of its keys; ``...`` leaves one out."""
    changed = copy.deepcopy(CONTRACT) | changes
    return {key: value for key, value in changed.items() if value is not ...}


def weights(scale: float = 1 / 16) -> onnx.TensorProto:
    """Return the one matrix: each class looks at the mean of its own channel."""
    return numpy_helper.from_array(np.eye(3, dtype=np.float32) * np.float32(scale), "weights")


def graph(
    *,
    nodes: list[onnx.NodeProto] | None = None,
    tensors: list[onnx.TensorProto] | None = None,
    dtype: int = TensorProto.UINT8,
    batch: str | int = "batch",
    classes: int = 3,
    temperature: float | None = None,
    side: int = 32,
) -> onnx.GraphProto:
    """Return the graph of ``content()``; ``nodes`` come before its own, and may declare what it does not keep.

    With a ``temperature`` it has the output ``calibrated``; files of before there was one have none.
    """
    own = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    tensors = tensors or [weights()]
    names = ["logits", "probabilities"]
    if temperature is not None:
        tensors = [*tensors, numpy_helper.from_array(np.array([temperature], np.float32), "temperature")]
        own.append(helper.make_node("Div", ["logits", "temperature"], ["divided"]))
        own.append(helper.make_node("Softmax", ["divided"], ["calibrated"], axis=-1))
        names.append("calibrated")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, classes]) for name in names]
    images = helper.make_tensor_value_info("images", dtype, [batch, side, side, 3])
    return helper.make_graph([*(nodes or []), *own], "colours", [images], outputs, initializer=tensors)


def content(
    graph: onnx.GraphProto | None = None, contract: Any = CONTRACT, *, domains: tuple[str, ...] = ("",), **parts: Any
) -> bytes:
    """Return a sealed model file. ``contract`` that is a string is taken as it is; ``parts`` go into the model."""
    plain = model(graph, domains=domains, **parts)
    text = contract if isinstance(contract, str) else json.dumps(contract)
    helper.set_model_props(plain, {CONTRACT_KEY: text})
    unsealed = plain.SerializeToString(deterministic=True)
    return unsealed + seal(unsealed)


def by_name(**training: Any) -> bytes:
    """Return a sealed file whose labels are sorted by name, as the classes of a folder are, with training metadata."""
    order = sorted(range(3), key=lambda label: LABELS[label])
    matrix = numpy_helper.from_array(np.ascontiguousarray(np.eye(3, dtype=np.float32)[:, order] / 16), "weights")
    return content(graph(tensors=[matrix]), contract(labels=sorted(LABELS), training=training))


def sized(side: int) -> bytes:
    """Return a sealed file for images of another size."""
    shape, recipe = ["batch", side, side, 3], CONTRACT["resize"] | {"height": side, "width": side}
    return content(graph(side=side), contract(input=CONTRACT["input"] | {"shape": shape}, resize=recipe))


def calibrated(**changes: Any) -> bytes:
    """Return a sealed file with the third output, with other values for some keys of what it says of that."""
    calibration = copy.deepcopy(CALIBRATION) | changes
    return content(graph(temperature=calibration["temperature"]), contract(calibration=calibration))


def model(graph_: onnx.GraphProto | None = None, *, domains: tuple[str, ...] = ("",), **parts: Any) -> onnx.ModelProto:
    """Return an ONNX model without contract and digest."""
    opsets = [helper.make_opsetid(domain, 17 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph_ or graph(), opset_imports=opsets, ir_version=8, **parts)


def resealed(graph: bytes) -> bytes:
    """Return a model file around a serialised graph that need not be one; its digest agrees."""
    shell = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    helper.set_model_props(shell, {CONTRACT_KEY: json.dumps(CONTRACT)})
    unsealed = shell.SerializeToString() + field(7, graph)
    return unsealed + seal(unsealed)


LENGTH_DELIMITED = 2
"""Wire type of the protocol buffer encoding."""


def field(number: int, content: bytes) -> bytes:
    """Return a field of a protocol buffer message, with bytes in it."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return a number, not negative, as the encoding has it: seven bits per byte."""
    content = b""
    while value > 127:
        content, value = content + bytes([value & 127 | 128]), value >> 7
    return content + bytes([value])
