"""The JSON Schemas of protobuf's scalars and well-known types, by protobuf's JSON mapping."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

Json = dict[str, Any]

# Schemas with patterns, each compiled once for all fields that refer to it.
SHARED: dict[str, Json] = {}


def _shared(name: str, pattern: str) -> Json:
    """A reference to the schema of texts that match a pattern."""
    # Cannot equal the name of a message type, even in the grammar, where `.` and `-` are the same.
    name = f"shared--{name}"
    SHARED[name] = {"type": "string", "pattern": pattern}
    return {"$ref": f"#/$defs/{name}"}


_INTEGER_32 = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_UNSIGNED_32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
# As text, as in the JSON mapping; one digit shorter than the maximum, so that every match fits.
_INTEGER_64 = _shared("int64", "^-?[0-9]{1,18}$")
_UNSIGNED_64 = _shared("uint64", "^[0-9]{1,19}$")
# As text too: the grammar of JSON numbers has no limit, and 1e999 is not a valid double.
_FLOAT = _shared("float", "^-?[0-9]{1,9}(\\.[0-9]{1,9})?$")
_TEXT = {"type": "string"}
_DAY = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    "|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_TIMESTAMP = _shared(
    "timestamp", f"^(19|20)[0-9]{{2}}-{_DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
)

SCALARS: dict[int, Json] = {
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
    FieldDescriptor.TYPE_BYTES: _shared("bytes", "^([A-Za-z0-9+/]{4}){0,1024}$"),
}

WELL_KNOWN: dict[str, Json] = {
    "google.protobuf.Timestamp": _TIMESTAMP,
    "google.protobuf.Duration": _shared("duration", "^-?[0-9]{1,9}(\\.[0-9]{1,9})?s$"),
    "google.protobuf.FieldMask": _shared(
        "mask", "^([a-z][a-zA-Z0-9]{0,30}(,[a-z][a-zA-Z0-9]{0,30}){0,15})?$"
    ),
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
    "google.protobuf.BytesValue": SCALARS[FieldDescriptor.TYPE_BYTES],
}
