"""The outermost fields of an ONNX file, read without the onnx package and before onnxruntime sees a byte.

An ONNX file is one protocol buffer message. Its graph is passed over unread here: what counts is where it begins and
ends, so that its digest can be compared with the one in the file's metadata.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

GRAPH, METADATA, OPERATOR_SETS, FUNCTIONS = 7, 14, 8, 25
"""Field numbers of ``ModelProto`` in onnx.proto."""
DOMAIN, KEY, VALUE = 1, 1, 2
"""Field numbers of ``OperatorSetIdProto`` and of ``StringStringEntryProto``."""

VARINT, EIGHT_BYTES, LENGTH_DELIMITED, FOUR_BYTES = 0, 1, 2, 5
"""Wire types of the protocol buffer encoding; the others are obsolete."""
MAX_VARINT_BYTES = 10


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


def read_envelope(content: bytes) -> Envelope:
    """Return the outermost fields. Raises ``ValueError`` where ``content`` ends early or is no message."""
    envelope = Envelope()
    for number, value in _fields(memoryview(content)):
        if number in (GRAPH, METADATA, OPERATOR_SETS, FUNCTIONS) and not isinstance(value, memoryview):
            raise ValueError(f"field {number} is a number; expected bytes")
        if number == GRAPH:
            envelope.graphs.append(value)
        elif number == METADATA:
            entry = dict(_fields(value))
            envelope.metadata[_text(entry.get(KEY))] = _text(entry.get(VALUE))
        elif number == OPERATOR_SETS:
            envelope.domains.append(_text(dict(_fields(value)).get(DOMAIN)))
        elif number == FUNCTIONS:
            envelope.functions += 1
    return envelope


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field; numbers come out as empty content, since none of them matters here."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            _, end = _varint(message, at)
            start = end
        elif wire_type == LENGTH_DELIMITED:
            length, start = _varint(message, at)
            end = start + length
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            start = end = at + (8 if wire_type == EIGHT_BYTES else 4)
        else:
            raise ValueError(f"wire type {wire_type} at byte {at}")
        if number == 0 or end > len(message):
            raise ValueError(f"field {number} ends at byte {end} of {len(message)}")
        yield number, message[start:end]
        at = end


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits per byte and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"a number without an end at byte {at}")


def _text(content: memoryview | None) -> str:
    return "" if content is None else bytes(content).decode()
