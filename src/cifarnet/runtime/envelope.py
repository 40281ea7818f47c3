"""The outermost fields of an ONNX file, read without the onnx package and before onnxruntime sees a byte.

An ONNX file is one protocol buffer message. Of its graph only the headers are read, for where it begins and ends (its
digest is compared with the one in the file's metadata) and for tensors that lie in other files.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

GRAPH, METADATA, OPERATOR_SETS, FUNCTIONS = 7, 14, 8, 25
"""Field numbers of ``ModelProto`` in onnx.proto."""
DOMAIN, KEY, VALUE = 1, 1, 2
"""Field numbers of ``OperatorSetIdProto`` and of ``StringStringEntryProto``."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Field numbers of ``TensorProto``; the location is 0 where the data lies in the file."""
PARTS = {
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""The fields through which a graph comes to its tensors."""

VARINT, EIGHT_BYTES, LENGTH_DELIMITED, FOUR_BYTES = 0, 1, 2, 5
"""Wire types of the protocol buffer encoding; the others are obsolete."""
MAX_VARINT_BYTES = 10
MAX_FIELD = 2**29 - 1
"""Largest number of a field. Beyond it protobuf for C++ drops the upper bits: onnxruntime would see another field."""

Value = int | memoryview
"""A number, or the bytes of a string or of a message."""


@dataclass
class Envelope:
    """What lies around and inside the outermost message of an ONNX file."""

    graphs: list[memoryview] = field(default_factory=list)
    """Each serialised graph; an honest file has one."""
    metadata: dict[str, str] = field(default_factory=dict)
    domains: list[str] = field(default_factory=list)
    """Operator sets that the file asks for; the standard one is called "" or ``ai.onnx``."""
    functions: int = 0
    """Number of operators that the file defines itself."""
    external: list[str] = field(default_factory=list)
    """Where each tensor lies that is not in the file, as the file says it."""


def read_envelope(content: bytes) -> Envelope:
    """Return the outermost fields. Raises ``ValueError`` where ``content`` ends early or is no message.

    Graphs nested too deeply to follow end in ``RecursionError``.
    """
    envelope = Envelope()
    for number, value in _fields(memoryview(content)):
        if number == GRAPH:
            envelope.graphs.append(_message(value))
            envelope.external += [place for tensor in _tensors(value, "graph") if (place := _external_place(tensor))]
        elif number == METADATA:
            entry = dict(_fields(_message(value)))
            envelope.metadata[_text(entry.get(KEY))] = _text(entry.get(VALUE))
        elif number == OPERATOR_SETS:
            envelope.domains.append(_text(dict(_fields(_message(value))).get(DOMAIN)))
        elif number == FUNCTIONS:
            envelope.functions += 1
    return envelope


def _tensors(part: Value, kind: str) -> Iterator[memoryview]:
    """Yield each tensor at any depth of a graph, node, attribute or sparse tensor."""
    for number, value in _fields(_message(part)):
        inner = PARTS[kind].get(number)
        if inner == "tensor":
            yield _message(value)
        elif inner is not None:
            yield from _tensors(value, inner)


def _external_place(tensor: memoryview) -> str:
    """Return where the data of a tensor lies, as its file says it, and "" where it lies in the tensor."""
    place = ""
    for number, value in _fields(tensor):
        if number == EXTERNAL_DATA:
            entry = dict(_fields(_message(value)))
            place = (_text(entry.get(VALUE)) if _text(entry.get(KEY)) == "location" else place) or "unnamed"
        elif number == DATA_LOCATION and value != 0:
            place = place or "unnamed"
    return place


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and content of each field."""
    at = 0
    while at < len(message):
        start, (tag, at) = at, _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= MAX_FIELD:
            raise ValueError(f"byte {start:,} begins field {number:,}; expected 1 to {MAX_FIELD:,}")
        value: Value | None = None
        if wire_type == VARINT:
            value, at = _varint(message, at)
        elif wire_type == LENGTH_DELIMITED:
            size, at = _varint(message, at)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise ValueError(f"byte {at} begins no field")
        if value is None:
            value, at = message[at : at + size], at + size
        if at > len(message):
            raise ValueError(f"field {number} ends at byte {at:,} of {len(message):,}")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits per byte and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"byte {at:,} of {len(message):,} begins a number without an end")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError(f"the number {value} stands where a message is expected")  # noqa: TRY004  # about the file
    return value


def _text(content: Value | None) -> str:
    return "" if content is None else bytes(_message(content)).decode()
