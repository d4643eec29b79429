"""Counts the fields of a serialized message without parsing it.

Parsing a message of 8 MiB can create 4 million objects. This walk creates none, and stops at a
limit.
"""

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor

_VARINT, _FIXED64, _LENGTH, _GROUP_BEGIN, _GROUP_END, _FIXED32 = range(6)
_MORE = 0x80


class _MalformedError(Exception):
    """The bytes are not a valid protobuf message."""


def has_more_fields(descriptor: Any, data: bytes, fields_max: int) -> bool:
    """Whether a message has more than `fields_max` fields, including those of nested messages.

    An element of a repeated field counts as a field. Bytes that are malformed after at most
    `fields_max` fields are left to the parser to reject. Costs 0.2 µs per field.
    """
    # Each field takes at least two bytes: a tag, and a value or a length.
    if len(data) <= 2 * fields_max:
        return False
    try:
        return _count_fields(descriptor, data, fields_max) > fields_max
    except (IndexError, _MalformedError):
        return False


def _count_fields(descriptor: Any, data: bytes, fields_max: int) -> int:
    """The number of fields, or `fields_max` + 1 if there are more."""
    count, position, end, groups = 0, 0, len(data), 0
    nested = _nested_types(descriptor)
    # The end of each enclosing message, and its nested message types by tag.
    enclosing: list[tuple[int, dict[int, Descriptor]]] = []
    while count <= fields_max:
        while position >= end:
            if groups:
                raise _MalformedError
            if not enclosing:
                return count
            end, nested = enclosing.pop()
        count += 1
        tag, position = data[position], position + 1
        if tag >= _MORE:
            tag, position = _varint(data, position - 1)
        wire_type = tag & 7
        if wire_type == _LENGTH:
            length, position = _varint(data, position)
            # The contract has no groups, so the fields in one are unknown.
            if length and tag in nested and not groups:
                enclosing.append((end, nested))
                end, nested = position + length, _nested_types(nested[tag])
            else:
                position += length
        else:
            position = _after(data, position, wire_type)
            groups += (wire_type == _GROUP_BEGIN) - (wire_type == _GROUP_END)
    return count


def _after(data: bytes, position: int, wire_type: int) -> int:
    """The position after a value of fixed or varint encoding."""
    if wire_type == _VARINT:
        return _varint(data, position)[1]
    if wire_type == _FIXED64:
        return position + 8
    return position + 4 if wire_type == _FIXED32 else position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    byte = data[position]
    if byte < _MORE:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while byte >= _MORE:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:  # noqa: PLR2004 - ten bytes of seven bits, the most that a varint has
            raise _MalformedError
    return value, position + 1


@cache
def _nested_types(descriptor: Any) -> dict[int, Descriptor]:
    """The message types of its fields, by tag."""
    return {
        field.number << 3 | _LENGTH: field.message_type
        for field in descriptor.fields
        if field.message_type
    }
