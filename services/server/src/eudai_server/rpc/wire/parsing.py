"""Parses request messages within limits of size and number of fields. No I/O."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message as ProtoMessage

from eudai_server.core.errors import InvalidRequestError, Violation
from eudai_server.rpc.wire.field_count import has_more_fields

# Enough for a photograph, or a minute of audio, with a long conversation.
MESSAGE_BYTES_MAX = 8 << 20
# The fields of a request, including nested messages: parsing and validating each costs about a
# microsecond.
FIELDS_MAX = 20_000
# The limit for requests that contain only names and options.
SMALL_REQUEST_BYTES_MAX = 64 << 10
_LARGE = frozenset(
    f"eudai.v1.{name}Request"
    for name in ("Generate", "GenerateOnce", "Embed", "CreateModel", "UploadBlob")
)

P = TypeVar("P", bound=ProtoMessage)


def parse(kind: type[P], data: bytes) -> P:
    """Parse a message. Raises InvalidRequestError if it is malformed or too expensive."""
    name = kind.DESCRIPTOR.full_name
    bytes_max = MESSAGE_BYTES_MAX if name in _LARGE else SMALL_REQUEST_BYTES_MAX
    if len(data) > bytes_max:
        raise _invalid(f"a {name} must not be longer than {bytes_max} bytes")
    if has_more_fields(kind.DESCRIPTOR, data, FIELDS_MAX):
        raise _invalid(
            f"a {name} must not have more than {FIELDS_MAX} fields, those of nested messages "
            "included"
        )
    try:
        return kind.FromString(data)
    except DecodeError:
        raise _invalid(
            f"the request is not a valid {name}; generate the client's stubs from proto/eudai/v1"
        ) from None


def _invalid(description: str) -> InvalidRequestError:
    return InvalidRequestError([Violation("", description)])
