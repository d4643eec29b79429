"""What happens while a model generates, in the proto's words. Knows no wire."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto


class Name(StrEnum):
    """An enumeration whose values are its names, so that an edge can look them up on its own side."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name


@dataclass(frozen=True, slots=True)
class Started:
    """The model is generating. Sent once, before any output."""

    model: str
    digest: str
    context_length: int
    # When the request was handed to the backend; None where it never was.
    start_time: datetime | None


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


class Channel(Name):
    """Where new output belongs."""

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
    """A call that the model made. Its arguments are JSON text as Ollama sent it: order and integers survive."""

    id: str
    name: str
    arguments_json: str


class Phase(Name):
    """Where a request is."""

    QUEUED = auto()
    LOADING_MODEL = auto()
    EVALUATING_PROMPT = auto()
    GENERATING = auto()


@dataclass(frozen=True, slots=True)
class Progress:
    """The request is in this phase now; while it is queued, so many are ahead of it."""

    phase: Phase
    requests_ahead: int | None = None


class GenerationWarningCode(Name):
    """Kinds of warning."""

    INPUT_TRUNCATED = auto()
    OPTION_IGNORED = auto()
    TOOL_CALL_INVALID = auto()
    FORMAT_NOT_SATISFIED = auto()
    DEPRECATED = auto()


@dataclass(frozen=True, slots=True)
class GenerationWarning:
    """Something that did not fail but that the caller should know about."""

    code: GenerationWarningCode
    message: str
    field: str = ""
    tool_call_id: str = ""


class FinishReason(Name):
    """Why generation stopped."""

    UNSPECIFIED = auto()
    STOP = auto()
    LENGTH = auto()
    TOOL_CALLS = auto()
    TIME_BUDGET = auto()
    CONTEXT_LENGTH = auto()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the whole generation. None where Ollama did not get to say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in nanoseconds. All but the queue as the backend says it."""

    queue_ns: int = 0
    load_ns: int | None = None
    prompt_ns: int | None = None
    generate_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation is complete. Sent once, last."""

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    backend_reason: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


Event = Started | Delta | ToolCall | Progress | GenerationWarning | Finished
