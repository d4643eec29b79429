"""Validates a GenerateRequest and lists all violations; no other module does. No I/O."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from eudai.v1 import generation_service_pb2 as pb, options_pb2
from google.protobuf.duration_pb2 import Duration

from eudai_server.core.errors import VIOLATIONS_MAX, InvalidRequestError, Violation
from eudai_server.core.model_name import violation_of
from eudai_server.rpc.wire.conversation_violations import conversation_violations, tool_violations
from eudai_server.rpc.wire.protobuf_schema import schema_text_from
from eudai_server.rpc.wire.request_schemas import RequestSchemas

STOP_SEQUENCES_MAX = 16
STOP_SEQUENCE_CHARS_MAX = 1024
LABELS_MAX = 16
LABEL_CHARS_MAX = 256
LOGPROB_ALTERNATIVES_MAX = 20
FLUSH_INTERVAL_MAX_S = 10.0
HEARTBEAT_MIN_S = 0.1
HEARTBEAT_MAX_S = 3600.0
# Ten years, positive or negative. Go's durations are nanoseconds of 64 bits, which end at 292
# years.
KEEP_ALIVE_MAX_S = 10 * 366 * 24 * 3600.0

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# Field: minimum, maximum. The names are Ollama's option names too.
_SAMPLING_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 5),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (math.ulp(0.0), math.inf),
    "repeat_last_n": (-1, math.inf),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, math.inf),
}

_LOAD_LEAST: Mapping[str, float] = {
    "context_length": 4,
    "batch_size": 1,
    "gpu_layers": -1,
    "threads": 0,
    "main_gpu": 0,
    "use_mmap": 0,
    "draft_tokens": 0,
}


def require(violations: Iterable[Violation]) -> None:
    """Raise InvalidRequestError if there are violations. Stops at the limit of violations."""
    found = list(islice(violations, VIOLATIONS_MAX + 1))
    if found:
        raise InvalidRequestError(found)


def reference_violations(**references: str) -> Iterator[Violation]:
    """The violations of model references, by field."""
    for field, reference in references.items():
        wrong = violation_of(reference)
        if wrong:
            yield Violation(field, wrong)


def violations_of(request: pb.GenerateRequest, schemas: RequestSchemas) -> Iterator[Violation]:
    """All violations of a request. Parses its schemas into `schemas`."""
    yield from reference_violations(model=request.model)
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
    yield from load_violations(request.load, "load")
    yield from digest_violations(request.expected_digest)
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


def sampling_violations(sampling: options_pb2.SamplingOptions) -> Iterator[Violation]:
    """The violations of sampling options."""
    for descriptor, value in sampling.ListFields():
        least, greatest = _SAMPLING_RANGES[descriptor.name]
        if not (math.isfinite(value) and least <= value <= greatest):
            yield Violation(f"sampling.{descriptor.name}", _range_text(least, greatest))


def _range_text(least: float, greatest: float) -> str:
    if greatest != math.inf:
        return f"must be between {least:g} and {greatest:g}"
    return f"must be at least {least:g}" if least != math.ulp(0.0) else "must be more than 0"


def stop_violations(stop: options_pb2.StopOptions) -> Iterator[Violation]:
    """The violations of stop options."""
    if stop.HasField("max_output_tokens") and stop.max_output_tokens <= 0:
        yield Violation(
            "stop.max_output_tokens", "must be more than 0; leave it out for the model's default"
        )
    if len(stop.sequences) > STOP_SEQUENCES_MAX:
        yield Violation("stop.sequences", f"must not be more than {STOP_SEQUENCES_MAX}")
    elif not all(0 < len(text) <= STOP_SEQUENCE_CHARS_MAX for text in stop.sequences):
        yield Violation("stop.sequences", f"must be 1 to {STOP_SEQUENCE_CHARS_MAX} characters each")


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
    if request.reasoning.effort not in pb.ReasoningEffort.values():
        yield Violation("reasoning.effort", "is not a known ReasoningEffort")
    if request.context_overflow not in pb.ContextOverflow.values():
        yield Violation("context_overflow", "is not a known ContextOverflow")


def load_violations(load: options_pb2.LoadOptions, field: str) -> Iterator[Violation]:
    """The violations of load options at `field`."""
    for descriptor, value in load.ListFields():
        if descriptor.name == "keep_alive":
            if abs(seconds_of(value)) > KEEP_ALIVE_MAX_S:
                yield Violation(
                    f"{field}.keep_alive",
                    "must not be longer than ten years; use a negative duration to keep the model "
                    "loaded forever",
                )
        elif value < _LOAD_LEAST[descriptor.name]:
            yield Violation(
                f"{field}.{descriptor.name}", f"must be at least {_LOAD_LEAST[descriptor.name]:g}"
            )


def digest_violations(digest: str) -> Iterator[Violation]:
    """The violations of an expected digest."""
    if digest and not DIGEST.fullmatch(digest):
        yield Violation(
            "expected_digest", 'must be "sha256:" and 64 hexadecimal digits, in lower case'
        )


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


def seconds_of(duration: Duration) -> float:
    """Convert a Duration to seconds."""
    return duration.seconds + duration.nanos / 1e9
