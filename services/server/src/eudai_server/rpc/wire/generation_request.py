"""Converts the bytes of a GenerateRequest to a Generation. No I/O."""

from collections.abc import Mapping, Sequence

from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.events import ToolCall
from eudai_server.core.generation import (
    AnyJson,
    Conversation,
    Generation,
    Infill,
    Input,
    JsonSchema,
    LoadOptions,
    Message,
    Prompt,
    RawPrompt,
    ReasoningEffort,
    Role,
    Tool,
)
from eudai_server.core.json_schema import Schema
from eudai_server.core.model_name import model_name_from
from eudai_server.rpc.wire.request_schemas import RequestSchemas
from eudai_server.rpc.wire.violations import require, seconds_of, violations_of

_ROLES: Mapping[int, Role] = {
    content_pb2.ROLE_SYSTEM: Role.SYSTEM,
    content_pb2.ROLE_USER: Role.USER,
    content_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    content_pb2.ROLE_TOOL: Role.TOOL,
}


def generation_from(
    request: pb.GenerateRequest,
    *,
    id: str,  # noqa: A002
    arrived_s: float,
    load_options: bool,
    caller: str = "",
    deadline_s: float | None = None,
) -> Generation:
    """Validate and convert a request. Its schemas are parsed; only cheap ones are compiled yet.

    `arrived_s` is the arrival as `time.monotonic()`; `load_options` is whether the operator allows
    them. Raises InvalidRequestError with its violations, or ServiceError CLOUD_DISABLED or
    LOAD_OPTIONS_FORBIDDEN.
    """
    schemas = RequestSchemas()
    require(violations_of(request, schemas))
    return Generation(
        id=id,
        caller=caller,
        model=model_name_from(request.model).listed,
        input=_input(request),
        system=request.system,
        tools=tuple(
            Tool(tool.name, tool.description, schemas.get(f"tools[{index}].parameters_schema"))
            for index, tool in enumerate(request.tools)
        ),
        sampling={descriptor.name: value for descriptor, value in request.sampling.ListFields()},
        max_output_tokens=request.stop.max_output_tokens
        if request.stop.HasField("max_output_tokens")
        else None,
        stop_sequences=tuple(request.stop.sequences),
        format=_format(request.format, schemas),
        effort=ReasoningEffort[
            pb.ReasoningEffort.Name(request.reasoning.effort).removeprefix("REASONING_EFFORT_")
        ],
        hide_reasoning=request.reasoning.hide,
        logprob_alternatives=request.logprobs.alternatives
        if request.HasField("logprobs")
        else None,
        drop_oldest=request.context_overflow == pb.CONTEXT_OVERFLOW_DROP_OLDEST,
        load=load_from(request.load, allowed=load_options),
        expected_digest=request.expected_digest,
        budget_end_s=arrived_s + seconds_of(request.time_budget)
        if request.HasField("time_budget")
        else None,
        deadline_s=deadline_s,
    )


def schemas_of(request: pb.GenerateRequest, generation: Generation) -> Mapping[str, Schema]:
    """The schemas of a generation, by the path of their field in the request."""
    schemas = {
        f"tools[{index}].parameters_schema": tool.parameters_schema
        for index, tool in enumerate(generation.tools)
        if tool.parameters_schema
    }
    if isinstance(generation.format, JsonSchema):
        schemas[f"format.{request.format.WhichOneof('shape')}"] = generation.format.schema
    return schemas


def _input(request: pb.GenerateRequest) -> Input:
    match request.WhichOneof("input"):
        case "prompt":
            return Prompt(request.prompt)
        case "raw_prompt":
            return RawPrompt(request.raw_prompt)
        case "infill":
            return Infill(request.infill.prefix, request.infill.suffix)
        case _:
            return Conversation(messages_from(request.conversation.messages))


def messages_from(messages: Sequence[content_pb2.Message]) -> tuple[Message, ...]:
    """Convert valid messages; a tool result gets the name of its call."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_message(message, names) for message in messages)


def _message(message: content_pb2.Message, tool_names: Mapping[str, str]) -> Message:
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
        role=_ROLES[message.role],
        text="".join(texts),
        reasoning="".join(reasonings),
        media=tuple(media),
        tool_calls=tuple(
            ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls
        ),
        tool_call_id=call_id,
        tool_name=message.tool_name or (tool_names.get(call_id, "") if call_id else ""),
    )


def _format(
    format: pb.OutputFormat,  # noqa: A002
    schemas: RequestSchemas,
) -> AnyJson | JsonSchema | None:
    shape = format.WhichOneof("shape")
    schema = schemas.get(f"format.{shape}")
    if schema:
        return JsonSchema(schema)
    return AnyJson() if shape == "any_json" else None


def load_from(load: options_pb2.LoadOptions, *, allowed: bool) -> LoadOptions:
    """Convert valid load options.

    Raises LOAD_OPTIONS_FORBIDDEN if some are set and the operator does not allow them.
    """
    if load.ListFields() and not allowed:
        raise ServiceError(
            Reason.LOAD_OPTIONS_FORBIDDEN,
            "load options affect every caller of the model and are disabled (EUDAI_LOAD_OPTIONS); "
            "leave out `load`",
        )
    options = tuple(
        (field.name, value) for field, value in load.ListFields() if field.name != "keep_alive"
    )
    return LoadOptions(
        options, seconds_of(load.keep_alive) if load.HasField("keep_alive") else None
    )
