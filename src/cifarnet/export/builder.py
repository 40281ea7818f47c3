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
"""ONNX type and numpy dtype of what is computed, by its name."""


@dataclass
class Draft:
    """A graph under construction, and the value that its last node put out."""

    weights: Mapping[str, NDArray[np.float32]]
    precision: str
    flip: bool = False
    """Whether every image's mirror image goes along with it."""
    value: str = INPUT_NAME
    shape: tuple[int, ...] = ()
    """Of one image's ``value``, as Keras has it: (height, width, channels) or (units,)."""
    rows: tuple[int, int, int] | None = None
    """Height, width and channels that were flattened last, until a dense layer has taken its rows in that order."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What becomes an initializer, by name, not yet rounded to ``precision``."""
    exact: list[onnx.TensorProto] = field(default_factory=list)
    """Initializers that are the same in every precision."""

    def add(self, operator: str, name: str, *constants: str, **attributes: Any) -> None:
        """Append a node that takes the last value and ``constants``; node and output are both called ``name``."""
        inputs = [self.value, *constants]
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.value = name

    def constant(self, name: str, array: Any) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(array)
        return name

    def whole_numbers(self, name: str, values: list[int]) -> str:
        """Add a constant of int64 and return its name."""
        self.exact.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """Return the constants in the graph's precision."""
        dtype = FLOATS[self.precision][1]
        # One dimension at least, as numpy makes it of a scalar here: it is broadcast all the same.
        rounded = [
            numpy_helper.from_array(np.ascontiguousarray(each, dtype), name) for name, each in self.constants.items()
        ]
        return rounded + self.exact
