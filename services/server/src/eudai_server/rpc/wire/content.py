"""Converts messages and tool calls of the contract to those of the core, and back. No I/O."""

from collections.abc import Mapping, Sequence

from eudai.v1 import content_pb2

from eudai_server.core.events import ToolCall
from eudai_server.core.generation import Message, Role
from eudai_server.rpc.wire.values import EnumCodec

ROLES = EnumCodec(content_pb2.Role, Role)


def messages_from(messages: Sequence[content_pb2.Message]) -> tuple[Message, ...]:
    """Convert valid messages; a tool result gets the name of its call."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_core_message_from(message, names) for message in messages)


def tool_call_from(call: ToolCall) -> content_pb2.ToolCall:
    """Convert a tool call of the model."""
    return content_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)


def message_from(message: Message) -> content_pb2.Message:
    """Convert a message of a model's description, which has only text."""
    return content_pb2.Message(
        role=ROLES.encode(message.role), parts=[content_pb2.Part(text=message.text)]
    )


def _core_message_from(message: content_pb2.Message, tool_names: Mapping[str, str]) -> Message:
    texts, reasonings, media = [], [], []
    for part in message.parts:
        match part.WhichOneof("kind"):
            case "text":
                texts.append(part.text)
            case "reasoning":
                reasonings.append(part.reasoning)
            case "media":
                media.append(part.media.data)
    call_id = message.tool_call_id
    return Message(
        role=ROLES.decode(message.role),
        text="".join(texts),
        reasoning="".join(reasonings),
        media=tuple(media),
        tool_calls=tuple(
            ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls
        ),
        tool_call_id=call_id,
        tool_name=message.tool_name or (tool_names.get(call_id, "") if call_id else ""),
    )
