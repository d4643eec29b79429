"""Hostile values for each field of a request, nested fields included, as bytes on the wire.

They are encoded here because the library refuses to make some, such as texts that are not UTF-8.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hostile_schemas import any_of_chain, patterns

MANY = 1_000_000
# Leaves room for the rest of a message of 8 MiB.
LONG = 4 << 20

_VARINT = {
    FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM,
}  # fmt: skip

TEXTS = {
    "empty": b"",
    "long": b"x" * LONG,
    "NUL and controls": bytes(range(32)),
    "not UTF-8": b"\xff\xfe",
    "NULs": b"\0" * 100_000,
    "many lines": b"\n" * LONG,
    "deep arrays": b"[" * LONG,
    "deep objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "many arrays": b'{"a":[' + b"[]," * 300_000 + b"[]]}",
    "many keys": json.dumps({str(index): 1 for index in range(20_000)}).encode(),
    "a huge number": b'{"a":' + b"9" * 200_000 + b"}",
    "a chain of anyOf": any_of_chain(26).encode(),
    "patterns": patterns(100, 15, type="object").encode(),
    "a deep pattern": json.dumps({"type": "object", "pattern": "(" * 1000 + ")" * 1000}).encode(),
    "slashes": b"/" * 60_000,
    "dots": b"a." * 30_000,
}
INTEGERS = {
    "zero": 0, "minus one": -1, "least": -(2**63), "greatest": 2**63 - 1, "2**31": 2**31,
    "-2**31": -(2**31), "999": 999,
}  # fmt: skip
FLOATS = {"NaN": float("nan"), "infinite": float("inf"), "-infinite": float("-inf"), "huge": 1e308}


@dataclass(frozen=True)
class Hostile:
    """A field with a hostile value."""

    path: tuple[FieldDescriptor, ...]
    what: str
    data: bytes

    @property
    def name(self) -> str:
        """The path of the field, and the kind of value."""
        return f"{'.'.join(field.name for field in self.path)}: {self.what}"


def hostile_values(message: Descriptor) -> Iterator[Hostile]:
    """Every field of a message and of the messages in it, with every hostile value of its type."""
    for path in _paths(message, ()):
        for what, data in _values(path[-1]):
            for field in reversed(path[:-1]):
                data = _delimited(field, data)  # noqa: PLW2901 - from the inside to the outside
            yield Hostile(path, what, data)


def _paths(
    message: Any, before: tuple[FieldDescriptor, ...]
) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in message.fields:
        yield (*before, field)
        if field.message_type:
            yield from _paths(field.message_type, (*before, field))


def _values(field: FieldDescriptor) -> Iterator[tuple[str, bytes]]:
    """The hostile values of a field on the wire, with the tag."""
    if field.type in _VARINT:
        one = _tag(field, 0) + _varint(1)
        for what, value in INTEGERS.items():
            yield what, _tag(field, 0) + _varint(value)
        if field.is_repeated:
            yield "very many, packed", _delimited(field, b"\x01" * MANY)
            yield "some, packed", _delimited(field, b"\x01" * 60_000)
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        one = _tag(field, 1) + bytes(8)
        for what, number in FLOATS.items():
            yield what, _tag(field, 1) + struct.pack("<d", number)
    elif field.message_type:
        one = _delimited(field, b"")
        yield "empty", one
        yield "unknown fields", _delimited(field, b"\xf8\x07\x01" * 10_000)
    else:
        one = _delimited(field, b"")
        for what, text in TEXTS.items():
            yield what, _delimited(field, text)
    yield "very many", one * MANY
    yield "some", one * 19_000


def _tag(field: FieldDescriptor, wire_type: int) -> bytes:
    return _varint(field.number << 3 | wire_type)


def _delimited(field: FieldDescriptor, content: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
