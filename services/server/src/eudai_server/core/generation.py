"""The core: a generation request (Generation) and the port that runs it (Backend).

Names are the proto's. The module knows neither gRPC nor HTTP. The events of a generation are in
`events`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import auto
from typing import Protocol

from eudai_server.core.call_limits import UNLIMITED, CallLimits
from eudai_server.core.events import Batches, ToolCall
from eudai_server.core.json_schema import Schema
from eudai_server.core.model_name import ModelName
from eudai_server.core.named_enum import NamedEnum

# ---- requests


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to answer, rendered with the model's own template."""

    text: str


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A text passed to the model unchanged, without a template."""

    text: str


@dataclass(frozen=True, slots=True)
class Infill:
    """A gap to fill between two texts."""

    prefix: str
    suffix: str


class Role(NamedEnum):
    """Who produced a message."""

    SYSTEM = auto()
    USER = auto()
    ASSISTANT = auto()
    TOOL = auto()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Its texts, and its reasonings, are joined in order.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    media: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask the caller to run.

    `parameters_schema` None means no arguments.
    """

    name: str
    description: str
    parameters_schema: Schema | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns so far, oldest first."""

    messages: tuple[Message, ...]


Input = Prompt | RawPrompt | Infill | Conversation


@dataclass(frozen=True, slots=True)
class AnyJson:
    """The answer is any JSON value."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer matches this JSON Schema."""

    schema: Schema


class ReasoningEffort(NamedEnum):
    """How much a model reasons before it answers.

    UNSPECIFIED: if the model can, but not under an output format.
    """

    UNSPECIFIED = auto()
    NONE = auto()
    DEFAULT = auto()
    LOW = auto()
    MEDIUM = auto()
    HIGH = auto()
    MAX = auto()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options of a loaded model, shared by all its callers.

    Hashable: equal options need one load.
    """

    options: tuple[tuple[str, float], ...] = ()
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One valid request. An unset field means the model's own default, never zero."""

    id: str
    # Identifies the caller in the fair queue: the principal, or a stranger's address.
    caller: str = ""
    model: ModelName
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
    # Both as `time.monotonic()`. At the end of the budget the answer ends gracefully; after the
    # deadline nobody waits for it.
    budget_end_s: float | None = None
    deadline_s: float | None = None

    def within(self, limits: CallLimits, arrived_s: float) -> "Generation":
        """The same request, with no more output and time than its caller may use.

        `arrived_s` is the arrival as `time.monotonic()`.
        """
        if limits is UNLIMITED:
            return self
        tokens, budget_end_s = self.max_output_tokens, self.budget_end_s
        if limits.output_tokens is not None:
            tokens = min(limits.output_tokens, tokens or limits.output_tokens)
        if limits.call_seconds is not None:
            end_s = arrived_s + limits.call_seconds
            budget_end_s = min(end_s, budget_end_s or end_s)
        return replace(self, max_output_tokens=tokens, budget_end_s=budget_end_s)


# ---- the port


class Backend(Protocol):
    """Runs generations. The only port between the two edges for them."""

    def generate(self, generation: Generation) -> Batches:
        """Yield events in batches; a batch holds the events that arrived together.

        Order: any Progress and Warning, one Started, any Delta, ToolCall, Progress and Warning, one
        Finished, nothing after. Raises ServiceError on any failure; the generator never ends
        without Finished. Closing it, or cancelling the task that consumes it, stops the model; a
        load of the model continues, because others may want it.
        """
        ...

    async def settle(self, model: ModelName, load: LoadOptions) -> None:
        """Return when the abandoned generations of a model have ended. Never raises.

        That is as far as the backend can tell.
        """
        ...
