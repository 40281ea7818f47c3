"""What is in a model file: its contract, and what each of its layers costs."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from .runtime import read_model

Shapes = Mapping[str, tuple[int, ...]]
"""Sizes by the name of a value."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the graph."""

    name: str
    operator: str
    shape: tuple[int, ...]
    """Of what it puts out for one image; channels come first."""
    parameters: int
    """Numbers learned or set, its own."""
    multiply_adds: int
    """Per image."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A model file, described."""

    path: str
    size_bytes: int
    sha256: str
    opset: int
    contract: dict[str, Any]
    layers: tuple[Layer, ...]
    parity: dict[str, Any] | None
    """What the gate measured when the file was written, where the record of it still lies beside the file."""

    @property
    def parameters(self) -> int:
        """Numbers in the graph."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition, per image, in convolutions and dense layers."""
        return sum(layer.multiply_adds for layer in self.layers)


def inspect_model(path: str | Path) -> Inspection:
    """Describe a model file without running it. Raises ``ModelError`` for anything but an unaltered one of ours."""
    content, contract = read_model(Path(path))
    model = onnx.load_from_string(content)
    (opset,) = (each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    return Inspection(
        path=str(path),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        opset=opset,
        contract=contract,
        layers=_layers(model.graph),
        parity=_measured(Path(path).with_suffix(".parity.json")),
    )


def _layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    own = {each.name: tuple(each.dims) for each in graph.initializer}
    shapes = own | {each.name: _shape(each) for each in (*graph.input, *graph.value_info, *graph.output)}
    return tuple(_layer(node, own, shapes) for node in graph.node)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the sizes, 0 for the batch."""
    return tuple(each.dim_value for each in value.type.tensor_type.shape.dim)


def _layer(node: onnx.NodeProto, own: Shapes, shapes: Shapes) -> Layer:
    shape = shapes[node.output[0]]
    return Layer(
        name=node.name,
        operator=node.op_type,
        shape=shape[1:] if shape[:1] == (0,) else shape,
        parameters=sum(math.prod(own[name]) for name in node.input if name in own),
        multiply_adds=_multiply_adds(node, shape, shapes),
    )


def _multiply_adds(node: onnx.NodeProto, shape: tuple[int, ...], shapes: Shapes) -> int:
    """Each weight of a convolution is used once per pixel that comes out, each of a dense layer once."""
    uses = {"Conv": math.prod(shape[2:]), "Gemm": 1}.get(node.op_type, 0)
    return uses * math.prod(shapes[node.input[1]]) if uses else 0


def _measured(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
