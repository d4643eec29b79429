"""Checks the messages, tools and media of a request, and lists all violations. No I/O."""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from eudai.v1 import content_pb2, generation_service_pb2 as pb

from eudai_server.core.errors import Violation
from eudai_server.rpc.wire.request_schemas import RequestSchemas

MESSAGES_MAX = 1024
# Limits for all messages together.
PARTS_MAX = 4096
TOOL_CALLS_MAX = 4096
ARGUMENTS_CHARS_MAX = 1 << 20
TOOLS_MAX = 128
# Longer than a tool's name may be: a model may call a tool that does not exist, and the caller can
# still append its message.
CALL_NAME_CHARS_MAX = 256
KNOWN_ROLES = (
    content_pb2.ROLE_SYSTEM,
    content_pb2.ROLE_USER,
    content_pb2.ROLE_ASSISTANT,
    content_pb2.ROLE_TOOL,
)

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# The first bytes of each type, and its bytes from the eighth on.
_MEDIA: Mapping[str, tuple[bytes, bytes]] = {
    "image/png": (rb"\x89PNG\r\n\x1a\n", b""),
    "image/jpeg": (rb"\xff\xd8\xff", b""),
    "image/webp": (rb"RIFF", rb"WEBP"),
    "audio/wav": (rb"RIFF", rb"WAVE"),
    "audio/mpeg": (rb"ID3|\xff[\xe0-\xff]", b""),
}


def conversation_violations(
    messages: Sequence[content_pb2.Message],
    *,
    has_system: bool,
    field: str = "conversation.messages",
) -> Iterator[Violation]:
    """The violations of the messages at `field`.

    `has_system` is whether the request sets its own system text.
    """
    too_many = list(_count_violations(messages, field))
    if too_many:
        yield from too_many
        return
    calls: set[str] = set()
    for index, message in enumerate(messages):
        at = f"{field}[{index}]"
        if message.role not in KNOWN_ROLES:
            yield Violation(
                f"{at}.role", "is required: ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL"
            )
        if message.role == content_pb2.ROLE_SYSTEM and has_system:
            yield Violation(f"{at}.role", "must not be ROLE_SYSTEM when the request sets system")
        yield from _part_violations(message, at)
        yield from _call_violations(message, at)
        yield from _result_violations(message, at, calls)
        calls.update(call.id for call in message.tool_calls)


def _count_violations(messages: Sequence[content_pb2.Message], field: str) -> Iterator[Violation]:
    if not messages:
        yield Violation(field, "must contain at least one message")
    if len(messages) > MESSAGES_MAX:
        yield Violation(field, f"must not have more than {MESSAGES_MAX} messages")
        return
    if sum(len(message.parts) for message in messages) > PARTS_MAX:
        yield Violation(field, f"must not have more than {PARTS_MAX} parts in all")
    calls = [call for message in messages for call in message.tool_calls]
    if len(calls) > TOOL_CALLS_MAX:
        yield Violation(field, f"must not have more than {TOOL_CALLS_MAX} tool calls in all")
    elif sum(len(call.arguments_json) for call in calls) > ARGUMENTS_CHARS_MAX:
        yield Violation(
            field,
            f"must not have tool calls with more than {ARGUMENTS_CHARS_MAX} characters in all",
        )


def tool_violations(request: pb.GenerateRequest, schemas: RequestSchemas) -> Iterator[Violation]:
    """The violations of the tools. Parses their schemas into `schemas`."""
    if request.tools and request.WhichOneof("input") != "conversation":
        yield Violation("tools", "must be empty unless the input is a conversation")
    if len(request.tools) > TOOLS_MAX:
        yield Violation("tools", f"must not be more than {TOOLS_MAX}")
        return
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            yield Violation(
                f"tools[{index}].name", "must be 1 to 64 letters, digits, underscores and hyphens"
            )
        elif tool.name in names:
            yield Violation(f"tools[{index}].name", "duplicate tool name")
        names.add(tool.name)
        if tool.parameters_schema:
            yield from _parameters_violations(tool, f"tools[{index}].parameters_schema", schemas)


def _parameters_violations(
    tool: content_pb2.Tool, field: str, schemas: RequestSchemas
) -> Iterator[Violation]:
    yield from schemas.read(field, lambda: tool.parameters_schema)
    schema = schemas.get(field)
    if schema and schema.value.get("type") != "object":
        yield Violation(field, 'must be the schema of an object: {"type":"object", …}')


def _part_violations(message: content_pb2.Message, field: str) -> Iterator[Violation]:
    spoken = message.role in (content_pb2.ROLE_SYSTEM, content_pb2.ROLE_USER)
    if spoken and not any(part.text or part.HasField("media") for part in message.parts):
        yield Violation(f"{field}.parts", "must not be empty")
    for index, part in enumerate(message.parts):
        kind = part.WhichOneof("kind")
        if kind is None:
            yield Violation(f"{field}.parts[{index}]", "must be one of text, reasoning and media")
        elif kind == "reasoning" and message.role != content_pb2.ROLE_ASSISTANT:
            yield Violation(f"{field}.parts[{index}].reasoning", "is only for ROLE_ASSISTANT")
        elif kind == "media":
            yield from _media_violations(message, part.media, f"{field}.parts[{index}].media")


def _media_violations(
    message: content_pb2.Message, media: content_pb2.Media, field: str
) -> Iterator[Violation]:
    if message.role not in (content_pb2.ROLE_USER, content_pb2.ROLE_TOOL):
        yield Violation(field, "is only for ROLE_USER and ROLE_TOOL")
    if media.mime_type not in _MEDIA:
        yield Violation(f"{field}.mime_type", f"must be one of {', '.join(_MEDIA)}")
        return
    begin, middle = _MEDIA[media.mime_type]
    if not re.match(begin, media.data) or not re.match(middle, media.data[8:16]):
        yield Violation(f"{field}.data", f"is not a valid {media.mime_type} file")


def _call_violations(message: content_pb2.Message, field: str) -> Iterator[Violation]:
    if message.tool_calls and message.role != content_pb2.ROLE_ASSISTANT:
        yield Violation(f"{field}.tool_calls", "are only for ROLE_ASSISTANT")
    for index, call in enumerate(message.tool_calls):
        if not call.id:
            yield Violation(f"{field}.tool_calls[{index}].id", "must not be empty")
        if not 1 <= len(call.name) <= CALL_NAME_CHARS_MAX or not call.name.isprintable():
            yield Violation(
                f"{field}.tool_calls[{index}].name",
                f"must be 1 to {CALL_NAME_CHARS_MAX} printable characters",
            )
        if not _is_json_object(call.arguments_json):
            yield Violation(f"{field}.tool_calls[{index}].arguments_json", "must be a JSON object")


def _is_json_object(text: str) -> bool:
    """Whether a text is a JSON object, checked without building objects."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return text.lstrip(" \t\r\n").startswith("{")


def _result_violations(
    message: content_pb2.Message, field: str, calls: set[str]
) -> Iterator[Violation]:
    if message.role != content_pb2.ROLE_TOOL:
        for name in ("tool_call_id", "tool_name"):
            if getattr(message, name):
                yield Violation(f"{field}.{name}", "is only for ROLE_TOOL")
    elif not message.tool_call_id:
        yield Violation(
            f"{field}.tool_call_id", "is required: the id of the call that this message answers"
        )
    elif message.tool_call_id not in calls and not message.tool_name:
        yield Violation(
            f"{field}.tool_call_id",
            "does not match a tool call of an earlier message; set tool_name if that message was "
            "dropped",
        )
