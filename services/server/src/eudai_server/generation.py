"""The heart: what a caller asks for (Generation), what happens (Event), and the port that makes it happen (Backend).

Its words are the proto's words. It knows neither gRPC nor HTTP.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from typing import Protocol


class _Name(StrEnum):
    """An enumeration whose values are its names, so that an edge can look them up on its own side."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name


# ---- what is asked for


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to answer, put into the model's own template."""

    text: str


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A text handed to the model as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Infill:
    """A gap to fill between two texts."""

    prefix: str
    suffix: str


class Role(_Name):
    """Who produced a message."""

    SYSTEM = auto()
    USER = auto()
    ASSISTANT = auto()
    TOOL = auto()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Texts and reasonings are each joined in order: Ollama takes one string of either."""

    role: Role
    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns so far, oldest first."""

    messages: tuple[Message, ...]


Input = Prompt | RawPrompt | Infill | Conversation


@dataclass(frozen=True, slots=True)
class AnyJson:
    """The answer is any JSON value."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer satisfies this JSON Schema, kept as text so that the order of properties survives."""

    text: str


class ReasoningEffort(_Name):
    """How much a model thinks before it answers. UNSPECIFIED: if it can, but not under an output format."""

    UNSPECIFIED = auto()
    NONE = auto()
    DEFAULT = auto()
    LOW = auto()
    MEDIUM = auto()
    HIGH = auto()
    MAX = auto()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options of the loaded model, which everyone shares. Hashable: two loads are one if these are equal."""

    options: tuple[tuple[str, float], ...] = ()
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One request, judged and in our words. Unset means the model's own default, never zero."""

    id: str
    model: str
    input: Input
    system: str = ""
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    format: AnyJson | JsonSchema | None = None
    effort: ReasoningEffort = ReasoningEffort.UNSPECIFIED
    hide_reasoning: bool = False
    logprob_alternatives: int | None = None
    drop_oldest: bool = False
    load: LoadOptions = LoadOptions()
    expected_digest: str = ""
    budget_end_s: float | None = None


# ---- what happens


@dataclass(frozen=True, slots=True)
class Started:
    """The model is generating. Sent once, before any output."""

    model: str
    digest: str
    context_length: int
    start_time: datetime


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


class Channel(_Name):
    """Where new output belongs."""

    TEXT = auto()
    REASONING = auto()


@dataclass(frozen=True, slots=True)
class Delta:
    """New output since the last event. Its text is never empty."""

    channel: Channel
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Phase(_Name):
    """Where a request is."""

    QUEUED = auto()
    LOADING_MODEL = auto()
    EVALUATING_PROMPT = auto()
    GENERATING = auto()


@dataclass(frozen=True, slots=True)
class Progress:
    """The request is in this phase now."""

    phase: Phase


class GenerationWarningCode(_Name):
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


class FinishReason(_Name):
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
    """Where the time went, in nanoseconds, as the backend says it."""

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


Event = Started | Delta | Progress | GenerationWarning | Finished


# ---- who makes it happen


class Backend(Protocol):
    """Generates. The one port between the two edges."""

    def generate(self, generation: Generation) -> AsyncGenerator[Sequence[Event], None]:
        """Yield events, those that came together in one batch.

        Order: any Progress and Warning, one Started, any Delta, Progress and Warning, one Finished, and nothing after.
        Raises ServiceError on any failure; an end without Finished does not happen. Closing the generator, or
        cancelling the task that consumes it, stops the model; a cold load that others may want goes on.
        """
        ...
