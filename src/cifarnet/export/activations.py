"""Write the ONNX nodes of Keras' activation functions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from .builder import GraphBuilder


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
