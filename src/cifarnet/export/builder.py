"""An ONNX graph under construction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOATS = {"float32": (TensorProto.FLOAT, np.float32), "float16": (TensorProto.FLOAT16, np.float16)}
"""ONNX type and numpy dtype of each precision."""

RESERVED = ("channels_first", "mirrored", "both", "pixels")
"""Names of the nodes that prepare the images, which no layer gets."""


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
    _names: Counter[str] = field(default_factory=lambda: Counter(RESERVED))

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; ``name`` names the node and its output, and is returned."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def unique(self, name: str) -> str:
        """Return ``name``, with a number added for the second and further calls of a layer."""
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

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

    def exact_constant(self, name: str, values: Sequence[float], dtype: Any = np.int64) -> str:
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
