"""An ONNX graph under construction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cifarnet.errors import ModelError

FLOATS = {"float32": (TensorProto.FLOAT, np.float32), "float16": (TensorProto.FLOAT16, np.float16)}
"""ONNX type and numpy dtype of each precision."""

RESERVED = frozenset(("images", "channels_first", "mirrored", "both", "pixels", "probabilities", "calibrated"))
"""Reserved names that no layer may use."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. One with three axes besides the batch is stored channels first."""

    name: str
    shape: tuple[int, ...]
    """Shape for one image in Keras' layout, such as (height, width, channels) or (units,)."""
    rows: tuple[int, int, int] | None = None
    """Height, width and channels of what was flattened channels first, or None if the order is Keras'."""


@dataclass
class GraphBuilder:
    """Collects the nodes and constants of a graph."""

    precision: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    """Names of tensors that more than one layer takes."""
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Initializers by name, before they are rounded to ``precision``."""
    exact: list[onnx.TensorProto] = field(default_factory=list)
    """Initializers that do not depend on the precision."""
    names: set[str] = field(default_factory=lambda: set(RESERVED))
    """Node names in use or reserved."""

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; ``name`` names the node and its output, and is returned."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def unique(self, name: str) -> str:
        """Return ``name``, with a number added if a node has or will have that name."""
        numbered = (f"{name}_{number}" for number in count(2))
        chosen = next(each for each in chain([name], numbered) if each not in self.names)
        self.names.add(chosen)
        return chosen

    def producer(self, value: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor, or None for the input of the graph."""
        return next((node for node in reversed(self.nodes) if node.output[0] == value), None)

    def rename(self, value: str, name: str) -> str:
        """Rename a tensor, and return its new name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == value else each for each in names]
        return name

    def constant(self, name: str, array: Any) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(array)
        return name

    def per_channel(self, name: str, array: Any, rank: int) -> str:
        """Add a constant with one element, or one per channel of a tensor with ``rank`` axes besides the batch."""
        flat = np.asarray(array).reshape(-1)
        return self.constant(name, flat.reshape(-1, 1, 1) if rank == 3 and flat.size > 1 else flat)

    def exact_constant(self, name: str, values: Sequence[Any], dtype: Any = np.int64) -> str:
        """Add a constant of a fixed dtype, such as a shape, and return its name."""
        self.exact.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """Return the constants in the graph's precision."""
        dtype = FLOATS[self.precision][1]
        rounded = [
            numpy_helper.from_array(np.asarray(each, dtype, order="C"), name) for name, each in self.constants.items()
        ]
        return rounded + self.exact


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
                f"{self.layer.name}, of type {type(self.layer).__name__}, cannot be exported; expected {expected}: "
                "change the layer"
            )


def array_of(variable: Any) -> NDArray[np.float32]:
    """Return a variable of a layer as a NumPy array."""
    return np.array(keras.ops.convert_to_numpy(variable), np.float32)


def channels_last(builder: GraphBuilder, name: str, value: Value) -> str:
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


def channels_first(builder: GraphBuilder, name: str, value: str, shape: tuple[int, ...]) -> Value:
    """Return the value of a tensor in Keras' order, which has ``shape`` for one image."""
    if len(shape) == 3:
        value = builder.add("Transpose", name, value, perm=[0, 3, 1, 2])
    return Value(value, shape)


Converter = Callable[[GraphBuilder, Call], Value]
"""Writes the nodes of one call of a layer and returns its output."""
