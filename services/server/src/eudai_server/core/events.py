"""The events of a generation.

Their names are the proto's; the module knows neither gRPC nor HTTP.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import auto

from eudai_server.core.named_enum import NamedEnum


@dataclass(frozen=True, slots=True)
class Started:
    """The model is generating. Sent once, before any output."""

    model: str
    digest: str
    context_length: int
    # When the request was sent to the backend; None if it was not.
    start_time: datetime | None
    # None if the backend or the model chose it.
    seed: int | None = None
    backend_version: str = ""
    # The ids of the generation and of the caller's request; set when the event is sent.
    generation_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token and the natural logarithm of its probability."""

    token: str
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token, and the likeliest ones at its position."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()


class Channel(NamedEnum):
    """The kind of output a delta belongs to."""

    TEXT = auto()
    REASONING = auto()


@dataclass(frozen=True, slots=True)
class Delta:
    """New output since the last event. Its text is never empty."""

    channel: Channel
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the model.

    Its arguments are JSON text as the backend sent it: order and integers survive.
    """

    id: str
    name: str
    arguments_json: str


class Phase(NamedEnum):
    """The phase of a request."""

    UNSPECIFIED = auto()
    QUEUED = auto()
    LOADING_MODEL = auto()
    EVALUATING_PROMPT = auto()
    GENERATING = auto()


@dataclass(frozen=True, slots=True)
class Progress:
    """The request entered this phase, or its queue position changed (`requests_ahead`)."""

    phase: Phase
    requests_ahead: int | None = None
    # Since the request arrived; set when the event is sent.
    elapsed_ns: int = 0


class GenerationWarningCode(NamedEnum):
    """Kinds of warning."""

    INPUT_TRUNCATED = auto()
    OPTION_IGNORED = auto()
    TOOL_CALL_INVALID = auto()
    FORMAT_NOT_SATISFIED = auto()
    DEPRECATED = auto()
    TOOL_CALL_LOST = auto()
    TOOL_CALL_ALTERED = auto()


@dataclass(frozen=True, slots=True)
class GenerationWarning:
    """A problem that did not fail the request but that the caller should know about."""

    code: GenerationWarningCode
    message: str
    field: str = ""
    tool_call_id: str = ""


class FinishReason(NamedEnum):
    """Why generation stopped."""

    UNSPECIFIED = auto()
    STOP = auto()
    LENGTH = auto()
    TOOL_CALLS = auto()
    TIME_BUDGET = auto()
    CONTEXT_LENGTH = auto()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of the whole generation. None if the backend did not report them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in nanoseconds. None if it is not known."""

    queue_ns: int | None = None
    load_ns: int | None = None
    prompt_ns: int | None = None
    generate_ns: int | None = None
    first_output_ns: int | None = None
    total_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation is complete. Sent once, last."""

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    backend_reason: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


Event = Started | Delta | ToolCall | Progress | GenerationWarning | Finished

# The events of one generation. A batch holds the events that arrived together.
Batches = AsyncGenerator[Sequence[Event], None]
