"""Converts a protobuf message type to a JSON Schema of its JSON mapping. No I/O.

The type comes as a FileDescriptorSet and a message name. An answer that matches the schema parses
into the caller's own generated class. Where JSON allows more than the mapping (64-bit integers,
dates, members of a oneof), the schema is the narrower of the two.
"""

import itertools
import json
import math
from collections.abc import Sequence

from eudai.v1 import generation_service_pb2 as pb
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from eudai_server.rpc.wire.field_count import has_more_fields
from eudai_server.rpc.wire.protobuf_json import SCALARS, SHARED, WELL_KNOWN, Json

DESCRIPTOR_BYTES_MAX = 1 << 20
# The limit for a serialized FileDescriptorSet; a field of a message takes about six.
DESCRIPTOR_FIELDS_MAX = 20_000
MESSAGE_TYPES_MAX = 200
# The limit for all messages that an answer may contain; a field counts once for each combination of
# oneof members.
ANSWER_FIELDS_MAX = 1000
ENUM_VALUES_MAX = 2000
ONEOF_CHOICES_MAX = 64

_NULL = "google.protobuf.NullValue"


class _MessageTypes:
    """The message types that an answer may contain, except well-known types, and their nesting."""

    def __init__(self, root: Descriptor) -> None:
        """Raises ValueError if there are too many types or fields."""
        self.all: list[Descriptor] = []
        self._indexes: dict[str, int] = {}
        fields = 0
        waiting = [root]
        held: list[list[Descriptor]] = []
        while waiting:
            descriptor = waiting.pop()
            if descriptor.full_name in self._indexes:
                continue
            fields += len(descriptor.fields) * _count_choices(descriptor)
            if fields > ANSWER_FIELDS_MAX:
                raise ValueError(
                    f"{root.full_name} must not have more than {ANSWER_FIELDS_MAX} fields, counted"
                    " once for each way in which the oneofs of their message combine"
                )
            if len(self.all) >= MESSAGE_TYPES_MAX:
                raise ValueError(
                    f"{root.full_name} must not use more than {MESSAGE_TYPES_MAX} message types"
                )
            self._indexes[descriptor.full_name] = len(self.all)
            self.all.append(descriptor)
            held.append(_message_types_of(descriptor))
            waiting += held[-1]
        self._reachable = self._close(held)

    def _close(self, held: list[list[Descriptor]]) -> list[int]:
        """For each type, the types it can reach, as bits (Warshall's transitive closure)."""
        reachable = [sum(1 << i for i in {self._indexes[m.full_name] for m in h}) for h in held]
        for middle in range(len(reachable)):
            for start in range(len(reachable)):
                if reachable[start] >> middle & 1:
                    reachable[start] |= reachable[middle]
        return reachable

    def may_hold_itself(self, descriptor: Descriptor, within: Descriptor) -> bool:
        """Whether a message of one type, nested in another, may contain the latter again."""
        start, target = (self._indexes.get(d.full_name) for d in (descriptor, within))
        if start is None or target is None:
            return False
        return start == target or bool(self._reachable[start] >> target & 1)


def schema_text_from(format: pb.ProtobufFormat) -> str:  # noqa: A002 - the proto's word
    """The schema as text. Raises ValueError with what to change."""
    message = _find(format)
    types = _MessageTypes(message)
    schemas = {descriptor.full_name: _message_schema(descriptor, types) for descriptor in types.all}
    enums = _enum_schemas(types)
    root = schemas[message.full_name]
    definitions = {**(schemas if _message_types_of(message) else {}), **enums}
    text = json.dumps({**root, "$defs": definitions})
    shared = {name: schema for name, schema in SHARED.items() if f'#/$defs/{name}"' in text}
    definitions |= shared
    return json.dumps({**root, "$defs": definitions} if definitions else root)


def _find(format: pb.ProtobufFormat) -> Descriptor:  # noqa: A002 - the proto's word
    data = format.file_descriptor_set
    if len(data) > DESCRIPTOR_BYTES_MAX:
        raise ValueError(
            f"file_descriptor_set must not be longer than {DESCRIPTOR_BYTES_MAX} bytes"
        )
    if has_more_fields(descriptor_pb2.FileDescriptorSet.DESCRIPTOR, data, DESCRIPTOR_FIELDS_MAX):
        raise ValueError(
            f"file_descriptor_set must not have more than {DESCRIPTOR_FIELDS_MAX} fields, those of"
            " nested messages included; leave out what message_type does not need, and source info"
        )
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError:
        raise ValueError(
            "file_descriptor_set is not a serialized google.protobuf.FileDescriptorSet"
        ) from None
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in files.file:
            pool.Add(file)
        return pool.FindMessageTypeByName(format.message_type)
    except KeyError:
        raise ValueError(
            f"file_descriptor_set does not define {format.message_type[:100]!r}, "
            "or a file that it imports is missing"
        ) from None
    except TypeError:
        raise ValueError(
            "file_descriptor_set does not link; include every import (protoc --include_imports)"
        ) from None


def _message_types_of(descriptor: Descriptor) -> list[Descriptor]:
    """The message types of its fields, except well-known types."""
    values = (_value_of(field).message_type for field in descriptor.fields)
    return [message for message in values if message and message.full_name not in WELL_KNOWN]


def _oneofs(descriptor: Descriptor) -> list[Sequence[FieldDescriptor]]:
    return [oneof.fields for oneof in descriptor.oneofs if not _is_optional(oneof.fields)]


def _count_choices(descriptor: Descriptor) -> int:
    """The number of ways to set members of its oneofs. Raises ValueError if there are too many."""
    choices = math.prod(len(group) + 1 for group in _oneofs(descriptor))
    if choices > ONEOF_CHOICES_MAX:
        raise ValueError(
            f"the oneofs of {descriptor.full_name} must not combine in more than "
            f"{ONEOF_CHOICES_MAX} ways"
        )
    return choices


def _message_schema(descriptor: Descriptor, types: _MessageTypes) -> Json:
    groups = _oneofs(descriptor)
    members = {field.name for group in groups for field in group}
    common = [field for field in descriptor.fields if field.name not in members]
    # At most one member of a oneof may be set, which a grammar can express only with one shape per
    # choice.
    shapes = [
        _shape([*common, *(field for field in choice if field)], members, types)
        for choice in itertools.product(*([None, *group] for group in groups))
    ]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}


def _shape(fields: list[FieldDescriptor], chosen: set[str], types: _MessageTypes) -> Json:
    fields = sorted(fields, key=lambda field: field.number)
    required = [
        field.json_name for field in fields if field.name in chosen or _is_expected(field, types)
    ]
    properties = {field.json_name: _field_schema(field) for field in fields}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _is_expected(field: FieldDescriptor, types: _MessageTypes) -> bool:
    """Whether an answer must have a field.

    All fields are required except those declared optional and messages that could nest themselves
    without end.
    """
    if field.is_required or field.is_repeated or not field.has_presence:
        return True
    if field.message_type is None or field.containing_type is None or _is_optional([field]):
        return False
    return not types.may_hold_itself(field.message_type, field.containing_type)


def _is_optional(fields: Sequence[FieldDescriptor]) -> bool:
    """Whether a oneof is only the encoding of an `optional` field."""
    oneof = fields[0].containing_oneof
    return len(fields) == 1 and oneof is not None and oneof.name == f"_{fields[0].name}"


def _enum_schemas(types: _MessageTypes) -> dict[str, Json]:
    """The schemas of the enums of all fields. Raises ValueError if they have too many values."""
    enums = {
        enum.full_name: enum
        for descriptor in types.all
        for enum in (_value_of(field).enum_type for field in descriptor.fields)
        if enum and enum.full_name != _NULL
    }
    if sum(len(enum.values) for enum in enums.values()) > ENUM_VALUES_MAX:
        raise ValueError(
            f"the enums of the message must not have more than {ENUM_VALUES_MAX} values in all"
        )
    return {name: {"enum": [value.name for value in enum.values]} for name, enum in enums.items()}


def _field_schema(field: FieldDescriptor) -> Json:
    if field.message_type and _is_map(field):
        if field.message_type.fields_by_number[1].type != FieldDescriptor.TYPE_STRING:
            raise ValueError(
                f"{field.full_name} is a map whose keys are not strings, "
                "which an output format cannot express"
            )
        return {"type": "object", "additionalProperties": _value_schema(_value_of(field))}
    schema = _value_schema(field)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _value_schema(field: FieldDescriptor) -> Json:
    if field.enum_type:
        name = field.enum_type.full_name
        return {"enum": [None]} if name == _NULL else {"$ref": f"#/$defs/{name}"}
    if field.message_type:
        name = field.message_type.full_name
        if name == "google.protobuf.Any":
            raise ValueError(
                f"{field.full_name} is a google.protobuf.Any, which an output format cannot express"
            )
        return WELL_KNOWN.get(name, {"$ref": f"#/$defs/{name}"})
    return SCALARS[field.type]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _value_of(field: FieldDescriptor) -> FieldDescriptor:
    """The field that describes the values: for a map, the value field of its entries."""
    entry = field.message_type
    return entry.fields_by_number[2] if entry and _is_map(field) else field
