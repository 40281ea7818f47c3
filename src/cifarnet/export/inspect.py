"""What is in a model file: its contract, and what each of its layers costs."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from cifarnet.contract import PARITY_SUFFIX, STANDARD_DOMAINS
from cifarnet.errors import ModelError
from cifarnet.runtime import read_model

MOST_NUMBERS = 10**15
"""Of one tensor: beyond any file, and small enough that whatever is computed from a few of them can be written out."""
WAY_OUT = "use a file that `cifarnet export` wrote"
Shapes = Mapping[str, tuple[int, ...]]
"""Sizes by the name of a value."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the graph."""

    name: str
    operator: str
    shape: tuple[int, ...]
    """Of what it puts out for one image, channels first; empty where the file does not tell it."""
    parameters: int
    """Numbers learned or set that it works with; one that several layers share counts for each of them."""
    multiply_adds: int
    """Per image; 0 where the file does not tell the shapes."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A model file, described."""

    path: str
    size_bytes: int
    sha256: str
    opset: int
    contract: dict[str, Any]
    layers: tuple[Layer, ...]
    parameters: int
    """Numbers learned or set in the graph, each counted once."""
    parity: dict[str, Any] | None
    """What the gate measured when this very file was written, where the record of it still lies beside the file."""

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition, per image, in convolutions and dense layers."""
        return sum(layer.multiply_adds for layer in self.layers)


def inspect_model(path: str | Path) -> Inspection:
    """Describe a model file without running it. Raises ``ModelError`` for anything but an unaltered one of ours."""
    content, contract = read_model(Path(path))
    model = _parsed(content, path)
    digest = hashlib.sha256(content).hexdigest()
    return Inspection(
        path=str(path),
        size_bytes=len(content),
        sha256=digest,
        opset=_opset(model, path),
        contract=contract,
        layers=_layers(model.graph, rows=2 if contract.get("flip") else 1),
        parameters=sum(map(_count, _weights(model.graph).values())),
        parity=_measured(Path(path).with_suffix(PARITY_SUFFIX), digest),
    )


def _parsed(content: bytes, path: str | Path) -> onnx.ModelProto:
    try:
        return onnx.load_from_string(content)
    except DecodeError as error:  # what onnxruntime reads may still be too deep for Python
        raise ModelError(f"{path} cannot be read by onnx ({error}); {WAY_OUT}") from error


def _opset(model: onnx.ModelProto, path: str | Path) -> int:
    """Return the version of the standard operators. Of several the last counts, as it does in onnxruntime."""
    versions = [each.version for each in model.opset_import if each.domain in STANDARD_DOMAINS]
    if not versions:
        raise ModelError(f"{path} names no version of the standard operators; expected one: {WAY_OUT}")
    return int(versions[-1])


def _layers(graph: onnx.GraphProto, rows: int) -> tuple[Layer, ...]:
    """Return the layers, with the multiplications for ``rows`` inputs of the network per image."""
    own = _weights(graph)
    shapes = own | {each.name: _shape(each) for each in (*graph.input, *graph.value_info, *graph.output)}
    return tuple(_layer(node, own, shapes, rows) for node in graph.node)


def _weights(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what the network computes with; whole numbers of 64 bits say where to cut an image."""
    return {each.name: tuple(each.dims) for each in graph.initializer if each.data_type != onnx.TensorProto.INT64}


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the sizes, 0 for the batch."""
    return tuple(each.dim_value for each in value.type.tensor_type.shape.dim)


def _layer(node: onnx.NodeProto, own: Shapes, shapes: Shapes, rows: int) -> Layer:
    shape = shapes.get(node.output[0], ()) if node.output else ()
    return Layer(
        name=_text(node.name),
        operator=_text(node.op_type),
        shape=shape[1:] if shape[:1] == (0,) else shape,
        parameters=sum(_count(own[name]) for name in node.input if name in own),
        multiply_adds=rows * _multiply_adds(node, shape, shapes),
    )


def _multiply_adds(node: onnx.NodeProto, shape: tuple[int, ...], shapes: Shapes) -> int:
    """Each weight of a convolution is used once per pixel that comes out, each of a dense layer once."""
    weights = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type not in ("Conv", "Gemm") or not (shape and weights):
        return 0
    return _count(weights) * (_count(shape[2:]) if node.op_type == "Conv" else 1)


def _count(sizes: Iterable[int]) -> int:
    """Return how many numbers a tensor of these sizes has."""
    count = math.prod(sizes)
    if not 0 <= count <= MOST_NUMBERS:
        raise ModelError(f"the graph has a tensor of sizes {str([*sizes])[:60]}; expected those of a file: {WAY_OUT}")
    return count


def _text(name: str | bytes) -> str:
    """Return a name of the graph, which comes as bytes where it is no UTF-8, with escapes in it then."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def _measured(path: Path, digest: str) -> dict[str, Any] | None:
    """Return the record at ``path`` if it is that of the file with this digest, and not of one that lay there once."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("sha256") == digest else None
