"""The heart: what a caller asks for (Generation), and the port that makes it happen (Backend). What happens is in `events`.

Its words are the proto's words. It knows neither gRPC nor HTTP.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import auto
from typing import Protocol

from eudai_server.events import Event, GenerationWarning, Name, ToolCall
from eudai_server.schema import Schema

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


class Role(Name):
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
    media: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask the caller to run; None where it takes no arguments."""

    name: str
    description: str
    parameters_schema: Schema | None


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
    """The answer satisfies this JSON Schema."""

    schema: Schema


class ReasoningEffort(Name):
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
    # Whose turn it is where callers take turns: an authenticated principal, else a peer's address.
    caller: str = ""
    model: str
    input: Input
    system: str = ""
    tools: tuple[Tool, ...] = ()
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
    # Both as `time.monotonic()`: at the first the answer ends gracefully, at the second nobody waits for it any more.
    budget_end_s: float | None = None
    deadline_s: float | None = None
    # What the judge of the request found that is no reason to refuse it.
    warnings: tuple[GenerationWarning, ...] = ()


# ---- who makes it happen


class Backend(Protocol):
    """Generates. The one port between the two edges."""

    def generate(self, generation: Generation) -> AsyncGenerator[Sequence[Event], None]:
        """Yield events, those that came together in one batch.

        Order: any Progress and Warning, one Started, any Delta, ToolCall, Progress and Warning, one Finished, nothing after.
        Raises ServiceError on any failure; an end without Finished does not happen. Closing the generator, or
        cancelling the task that consumes it, stops the model; a cold load that others may want goes on.
        """
        ...

    async def settle(self, model: str, load: LoadOptions) -> None:
        """Return once what given up generations of a model left running has ended, as far as that can be told. Never raises."""
        ...
