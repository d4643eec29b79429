"""Finds all violations of a GenerateRequest. No I/O."""

from collections.abc import Iterator

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.errors import Violation
from eudai_server.rpc.wire.conversation_violations import conversation_violations, tool_violations
from eudai_server.rpc.wire.options import load_violations, sampling_violations, stop_violations
from eudai_server.rpc.wire.protobuf_schema import schema_text_from
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.request_schemas import RequestSchemas
from eudai_server.rpc.wire.values import seconds_of
from eudai_server.rpc.wire.violations import digest_violations

LABELS_MAX = 16
LABEL_CHARS_MAX = 256
LOGPROB_ALTERNATIVES_MAX = 20
FLUSH_INTERVAL_MAX_S = 10.0
HEARTBEAT_MIN_S = 0.1
HEARTBEAT_MAX_S = 3600.0


def generation_violations(
    request: pb.GenerateRequest, schemas: RequestSchemas, references: References
) -> Iterator[Violation]:
    """All violations of a request. Parses its schemas and references into the arguments."""
    yield from references.read(model=request.model)
    yield from _input_violations(request)
    yield from tool_violations(request, schemas)
    yield from sampling_violations(request.sampling)
    yield from stop_violations(request.stop)
    if request.HasField("format"):
        yield from _format_violations(request.format, schemas)
    yield from _enum_violations(request)
    if not 0 <= request.logprobs.alternatives <= LOGPROB_ALTERNATIVES_MAX:
        yield Violation(
            "logprobs.alternatives", f"must be between 0 and {LOGPROB_ALTERNATIVES_MAX}"
        )
    yield from load_violations(request.load)
    if request.expected_digest:
        yield from digest_violations("expected_digest", request.expected_digest)
    yield from _event_violations(request)
    if len(request.labels) > LABELS_MAX:
        yield Violation("labels", f"must not be more than {LABELS_MAX}")
    elif any(len(text) > LABEL_CHARS_MAX for pair in request.labels.items() for text in pair):
        yield Violation(
            "labels", f"must not have a key or value of more than {LABEL_CHARS_MAX} characters"
        )


def _input_violations(request: pb.GenerateRequest) -> Iterator[Violation]:
    kind = request.WhichOneof("input")
    if kind is None:
        yield Violation("input", "is required: one of prompt, conversation, raw_prompt and infill")
    elif kind == "conversation":
        yield from conversation_violations(
            request.conversation.messages, has_system=bool(request.system)
        )
    elif kind == "infill":
        for name in ("prefix", "suffix"):
            if not getattr(request.infill, name):
                yield Violation(f"infill.{name}", "must not be empty")
    elif not getattr(request, kind):
        yield Violation(kind, "must not be empty")
    if request.system and kind in ("raw_prompt", "infill"):
        yield Violation("system", f"cannot be used with {kind}")
    if request.context_overflow == pb.CONTEXT_OVERFLOW_DROP_OLDEST and kind != "conversation":
        yield Violation(
            "context_overflow",
            "must not be CONTEXT_OVERFLOW_DROP_OLDEST unless the input is a conversation",
        )


def _format_violations(
    format: pb.OutputFormat,  # noqa: A002 - the proto's word
    schemas: RequestSchemas,
) -> Iterator[Violation]:
    shape = format.WhichOneof("shape")
    if shape is None:
        yield Violation("format", "must set any_json, json_schema or protobuf")
    elif shape == "protobuf":
        yield from schemas.read("format.protobuf", lambda: schema_text_from(format.protobuf))
    elif shape == "json_schema":
        yield from schemas.read("format.json_schema", lambda: format.json_schema)


def _enum_violations(request: pb.GenerateRequest) -> Iterator[Violation]:
    if request.reasoning.effort not in pb.ReasoningEffort.DESCRIPTOR.values_by_number:
        yield Violation("reasoning.effort", "is not a known ReasoningEffort")
    if request.tool_choice not in pb.ToolChoice.DESCRIPTOR.values_by_number:
        yield Violation("tool_choice", "is not a known ToolChoice")
    if request.context_overflow not in pb.ContextOverflow.DESCRIPTOR.values_by_number:
        yield Violation("context_overflow", "is not a known ContextOverflow")


def _event_violations(request: pb.GenerateRequest) -> Iterator[Violation]:
    heartbeat_s = seconds_of(request.events.heartbeat_interval)
    if (
        request.events.HasField("heartbeat_interval")
        and not HEARTBEAT_MIN_S <= heartbeat_s <= HEARTBEAT_MAX_S
    ):
        yield Violation(
            "events.heartbeat_interval",
            f"must be between {HEARTBEAT_MIN_S:g} and {HEARTBEAT_MAX_S:g} seconds",
        )
    if not 0 <= seconds_of(request.events.flush_interval) <= FLUSH_INTERVAL_MAX_S:
        yield Violation(
            "events.flush_interval", f"must be between 0 and {FLUSH_INTERVAL_MAX_S:g} seconds"
        )
    if request.HasField("time_budget") and seconds_of(request.time_budget) <= 0:
        yield Violation("time_budget", "must be more than 0")
