"""Inspect a model file: its contract, and the parameters and multiply-adds of its layers."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from cifarnet.contract import PARITY_SUFFIX, STANDARD_DOMAINS, Contract
from cifarnet.errors import ModelError
from cifarnet.runtime import read_model

MOST_NUMBERS = 10**15
"""Maximum elements of one tensor: more than any file has, few enough that products of them can be printed."""
WAY_OUT = "use a file written by `cifarnet export`"
Shapes = Mapping[str, tuple[int, ...]]
"""Tensor shapes by name."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the graph."""

    name: str
    operator: str
    shape: tuple[int, ...]
    """Output shape for one image, channels first; empty if the file does not contain it."""
    parameters: int
    """Number of parameters, with scales and other constants; shared ones count for each layer."""
    multiply_adds: int
    """Multiply-adds per image; 0 if the file does not contain the shapes."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Description of a model file."""

    path: str
    size_bytes: int
    sha256: str
    opset: int
    contract: Contract
    layers: tuple[Layer, ...]
    parameters: int
    """Number of parameters in the file: weights, and the scales and temperature of the graph."""
    parity: dict[str, Any] | None
    """Content of the parity file beside the model, or None if there is none for this very model."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per image in convolutions and dense layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values."""
        return asdict(self) | {"contract": self.contract.document}


def inspect_model(path: str | Path) -> Inspection:
    """Describe a model file without running it. Raises ``ModelError`` for a file not written by cifarnet or altered."""
    content, contract = read_model(Path(path))
    model = _parsed(content, path)
    digest = hashlib.sha256(content).hexdigest()
    return Inspection(
        path=str(path),
        size_bytes=len(content),
        sha256=digest,
        opset=_opset(model, path),
        contract=contract,
        layers=_layers(model.graph, rows=contract.views),
        parameters=sum(map(_count, _weights(model.graph).values())),
        parity=_measured(Path(path).with_suffix(PARITY_SUFFIX), digest),
    )


def _parsed(content: bytes, path: str | Path) -> onnx.ModelProto:
    try:
        return onnx.load_from_string(content)
    except DecodeError as error:  # nested too deeply for Python, if not for onnxruntime
        raise ModelError(f"{path} cannot be read by onnx ({error}); {WAY_OUT}") from error


def _opset(model: onnx.ModelProto, path: str | Path) -> int:
    """Return the opset version of the standard domain, the last one if there are several, as in onnxruntime."""
    versions = [each.version for each in model.opset_import if each.domain in STANDARD_DOMAINS]
    if not versions:
        raise ModelError(f"{path} has no opset version of the standard operators; expected one: {WAY_OUT}")
    return int(versions[-1])


def _layers(graph: onnx.GraphProto, rows: int) -> tuple[Layer, ...]:
    """Return the layers, with multiply-adds for ``rows`` network inputs per image."""
    own = _weights(graph)
    shapes = own | {each.name: _shape(each) for each in (*graph.input, *graph.value_info, *graph.output)}
    return tuple(_layer(node, own, shapes, rows) for node in graph.node)


def _weights(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters; int64 initializers are indices and shapes, not parameters."""
    return {each.name: tuple(each.dims) for each in graph.initializer if each.data_type != onnx.TensorProto.INT64}


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
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
    """Return the multiply-adds: a weight is used once per output pixel of a convolution, once in a dense layer."""
    weights = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type not in ("Conv", "Gemm") or not (shape and weights):
        return 0
    return _count(weights) * (_count(shape[2:]) if node.op_type == "Conv" else 1)


def _count(sizes: Iterable[int]) -> int:
    count = math.prod(sizes)
    if not 0 <= count <= MOST_NUMBERS:
        raise ModelError(f"the graph has a tensor of shape {str([*sizes])[:60]}; expected a smaller one: {WAY_OUT}")
    return count


def _text(name: str | bytes) -> str:
    """Return a name in the graph as text; names that are invalid UTF-8 come as bytes."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def _measured(path: Path, digest: str) -> dict[str, Any] | None:
    """Return the parity file at ``path`` if it belongs to the model with this digest, or None."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("sha256") == digest else None
