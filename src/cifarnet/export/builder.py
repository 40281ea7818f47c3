"""An ONNX graph under construction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cifarnet.contract import INPUT_NAME

FLOATS = {"float32": (TensorProto.FLOAT, np.float32), "float16": (TensorProto.FLOAT16, np.float16)}
"""ONNX type and numpy dtype of each precision."""


@dataclass
class GraphBuilder:
    """Builds a chain of ONNX nodes, each of which takes the output of the one before."""

    weights: Mapping[str, NDArray[np.float32]]
    precision: str
    flip: bool = False
    """Whether to apply test-time augmentation (TTA) with horizontally flipped images."""
    value: str = INPUT_NAME
    """Name of the last node's output."""
    shape: tuple[int, ...] = ()
    """Shape of ``value`` for one image in Keras' layout: (height, width, channels) or (units,)."""
    rows: tuple[int, int, int] | None = None
    """Height, width and channels before the last flattening, until a dense layer has permuted its rows accordingly."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Initializers by name, before they are rounded to ``precision``."""
    exact: list[onnx.TensorProto] = field(default_factory=list)
    """Initializers that do not depend on the precision."""

    def add(self, operator: str, name: str, *constants: str, **attributes: Any) -> None:
        """Append a node with the inputs ``value`` and ``constants``; ``name`` names the node and its output."""
        inputs = [self.value, *constants]
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.value = name

    def constant(self, name: str, array: Any) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(array)
        return name

    def int64_constant(self, name: str, values: list[int]) -> str:
        """Add an int64 constant and return its name."""
        self.exact.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """Return the constants in the graph's precision."""
        dtype = FLOATS[self.precision][1]
        # ascontiguousarray makes scalars one-dimensional, which broadcasts the same way.
        rounded = [
            numpy_helper.from_array(np.ascontiguousarray(each, dtype), name) for name, each in self.constants.items()
        ]
        return rounded + self.exact
