"""Validates a GenerateRequest and converts it to a Generation. No I/O."""

from collections.abc import Mapping

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.generation import (
    AnyJson,
    Conversation,
    Generation,
    Infill,
    Input,
    JsonSchema,
    Prompt,
    RawPrompt,
    ReasoningEffort,
    Tool,
)
from eudai_server.core.json_schema import Schema
from eudai_server.rpc.wire.content import messages_from
from eudai_server.rpc.wire.generation_violations import generation_violations
from eudai_server.rpc.wire.options import load_from, max_output_tokens_from, sampling_from
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.request_schemas import RequestSchemas
from eudai_server.rpc.wire.values import EnumCodec, seconds_of
from eudai_server.rpc.wire.violations import require

EFFORTS = EnumCodec(pb.ReasoningEffort, ReasoningEffort)


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
    schemas, references = RequestSchemas(), References()
    require(generation_violations(request, schemas, references))
    return Generation(
        id=id,
        caller=caller,
        model=references.get("model"),
        input=_input(request),
        system=request.system,
        tools=_tools(request, schemas),
        sampling=sampling_from(request.sampling),
        max_output_tokens=max_output_tokens_from(request.stop),
        stop_sequences=tuple(request.stop.sequences),
        format=_format(request.format, schemas),
        effort=EFFORTS.decode(request.reasoning.effort),
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


def _tools(request: pb.GenerateRequest, schemas: RequestSchemas) -> tuple[Tool, ...]:
    """The tools that the model may call."""
    if request.tool_choice == pb.TOOL_CHOICE_NONE:
        return ()
    return tuple(
        Tool(tool.name, tool.description, schemas.get(f"tools[{index}].parameters_schema"))
        for index, tool in enumerate(request.tools)
    )


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


def _format(
    format: pb.OutputFormat,  # noqa: A002
    schemas: RequestSchemas,
) -> AnyJson | JsonSchema | None:
    shape = format.WhichOneof("shape")
    schema = schemas.get(f"format.{shape}")
    if schema:
        return JsonSchema(schema)
    return AnyJson() if shape == "any_json" else None
