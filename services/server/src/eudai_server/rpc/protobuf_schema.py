"""A FileDescriptorSet and the name of a message in it → JSON Schema, as text, of that message in protobuf's JSON mapping.

An answer that satisfies the schema parses into the caller's own generated class. Where JSON alone would admit more than
the mapping does (64-bit integers, dates, members of a oneof), the schema is the narrower of the two. No I/O.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from eudai.v1 import generation_service_pb2 as pb
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError

DESCRIPTOR_BYTES_MAX = 1 << 20
MESSAGES_MAX = 200
ONEOF_CHOICES_MAX = 64

Json = dict[str, Any]

_INTEGER_32 = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_UNSIGNED_32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
# As text, which is how the mapping writes them; one digit short of the greatest, so that every one of them fits.
_INTEGER_64 = {"type": "string", "pattern": "^-?[0-9]{1,18}$"}
_UNSIGNED_64 = {"type": "string", "pattern": "^[0-9]{1,19}$"}
# As text too: the grammar of JSON numbers knows no bound, and 1e999 is no double.
_FLOAT = {"type": "string", "pattern": "^-?[0-9]{1,9}(\\.[0-9]{1,9})?$"}
_TEXT = {"type": "string"}
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_TIMESTAMP = {
    "type": "string",
    "pattern": f"^(19|20)[0-9]{{2}}-{_DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$",
}

_SCALARS: dict[int, Json] = {
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32),
        _INTEGER_32,
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), _UNSIGNED_32),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64),
        _INTEGER_64,
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), _UNSIGNED_64),
    **dict.fromkeys((FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE), _FLOAT),
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: _TEXT,
    FieldDescriptor.TYPE_BYTES: {"type": "string", "pattern": "^([A-Za-z0-9+/]{4}){0,1024}$"},
}

_WELL_KNOWN: dict[str, Json] = {
    "google.protobuf.Timestamp": _TIMESTAMP,
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]{1,9}(\\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "pattern": "^([a-z][a-zA-Z0-9]{0,30}(,[a-z][a-zA-Z0-9]{0,30}){0,15})?$",
    },
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Empty": {"type": "object", "properties": {}, "additionalProperties": False},
    "google.protobuf.DoubleValue": _FLOAT,
    "google.protobuf.FloatValue": _FLOAT,
    "google.protobuf.Int64Value": _INTEGER_64,
    "google.protobuf.UInt64Value": _UNSIGNED_64,
    "google.protobuf.Int32Value": _INTEGER_32,
    "google.protobuf.UInt32Value": _UNSIGNED_32,
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.StringValue": _TEXT,
    "google.protobuf.BytesValue": _SCALARS[FieldDescriptor.TYPE_BYTES],
}


def schema_text_from(format: pb.ProtobufFormat) -> str:  # noqa: A002 - the proto's word
    """The schema. Raises ValueError, saying what to change."""
    message = _find(format)
    schemas: dict[str, Json] = {}
    waiting = [message]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in schemas:
            continue
        if len(schemas) >= MESSAGES_MAX:
            raise ValueError(f"{message.full_name} holds more than {MESSAGES_MAX} message types")
        schemas[descriptor.full_name] = _message_schema(descriptor)
        waiting += _nested(descriptor)
    root = schemas[message.full_name]
    return json.dumps({**root, "$defs": schemas} if _nested(message) else root)


def _find(format: pb.ProtobufFormat) -> Descriptor:  # noqa: A002 - the proto's word
    if len(format.file_descriptor_set) > DESCRIPTOR_BYTES_MAX:
        raise ValueError(
            f"file_descriptor_set must not be longer than {DESCRIPTOR_BYTES_MAX} bytes"
        )
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(format.file_descriptor_set)
    except DecodeError:
        raise ValueError(
            "file_descriptor_set is no serialized google.protobuf.FileDescriptorSet"
        ) from None
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in files.file:
            pool.Add(file)
        return pool.FindMessageTypeByName(format.message_type)
    except KeyError:
        raise ValueError(
            f"file_descriptor_set defines no message {format.message_type[:100]!r}, or lacks a file it imports"
        ) from None
    except TypeError:
        raise ValueError(
            "file_descriptor_set does not link; include every import (protoc --include_imports)"
        ) from None


def _nested(descriptor: Descriptor) -> list[Descriptor]:
    """The messages that its fields hold, well-known ones aside."""
    held = (field.message_type for field in descriptor.fields if field.message_type)
    values = (_value_of(message).message_type if _is_map(message) else message for message in held)
    return [message for message in values if message and message.full_name not in _WELL_KNOWN]


def _message_schema(descriptor: Descriptor) -> Json:
    groups = [oneof.fields for oneof in descriptor.oneofs if not _is_optional(oneof.fields)]
    members = {field.name for group in groups for field in group}
    common = [field for field in descriptor.fields if field.name not in members]
    choices = list(
        itertools.islice(
            itertools.product(*([None, *group] for group in groups)), ONEOF_CHOICES_MAX + 1
        )
    )
    if len(choices) > ONEOF_CHOICES_MAX:
        raise ValueError(
            f"the oneofs of {descriptor.full_name} combine in more than {ONEOF_CHOICES_MAX} ways"
        )
    # At most one member of a oneof may be set, and a grammar can say so only by a shape for each choice.
    shapes = [
        _shape([*common, *(field for field in choice if field)], members) for choice in choices
    ]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}


def _shape(fields: list[FieldDescriptor], chosen: set[str]) -> Json:
    fields = sorted(fields, key=lambda field: field.number)
    required = [field.json_name for field in fields if field.name in chosen or _is_expected(field)]
    properties = {field.json_name: _field_schema(field) for field in fields}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _is_expected(field: FieldDescriptor) -> bool:
    """Whether an answer must have it: all but what is declared optional, and messages that could hold themselves for ever."""
    if field.is_required or field.is_repeated or not field.has_presence:
        return True
    if field.message_type is None or field.containing_type is None or _is_optional([field]):
        return False
    return not _reaches(field.message_type, field.containing_type)


def _is_optional(fields: Sequence[FieldDescriptor]) -> bool:
    """Whether a oneof is only how `optional` is written down."""
    oneof = fields[0].containing_oneof
    return len(fields) == 1 and oneof is not None and oneof.name == f"_{fields[0].name}"


def _reaches(start: Descriptor, target: Descriptor) -> bool:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        message = waiting.pop()
        if message.full_name == target.full_name:
            return True
        if message.full_name not in seen:
            seen.add(message.full_name)
            waiting += _nested(message)
    return False


def _field_schema(field: FieldDescriptor) -> Json:
    if field.message_type and _is_map(field.message_type):
        key, value = field.message_type.fields_by_number[1], _value_of(field.message_type)
        if key.type != FieldDescriptor.TYPE_STRING:
            raise ValueError(
                f"{field.full_name} is a map whose keys are no strings, which no grammar can hold an answer to"
            )
        return {"type": "object", "additionalProperties": _value_schema(value)}
    schema = _value_schema(field)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _value_schema(field: FieldDescriptor) -> Json:
    if field.enum_type:
        return {"enum": list(_enum_names(field.enum_type))}
    if field.message_type:
        name = field.message_type.full_name
        if name == "google.protobuf.Any":
            raise ValueError(
                f"{field.full_name} is a google.protobuf.Any, whose type no grammar can know"
            )
        return _WELL_KNOWN.get(name) or ({} if name in _WELL_KNOWN else {"$ref": f"#/$defs/{name}"})
    return _SCALARS[field.type]


def _enum_names(enum: EnumDescriptor) -> Iterator[str | None]:
    if enum.full_name == "google.protobuf.NullValue":
        yield None
    else:
        yield from (value.name for value in enum.values)


def _is_map(message: Descriptor) -> bool:
    return bool(message.GetOptions().map_entry)


def _value_of(entry: Descriptor) -> FieldDescriptor:
    return entry.fields_by_number[2]
