"""The result of a generation, and how it is built from events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration

from eudai.v1 import content_pb2, generation_service_pb2 as pb


@dataclass(frozen=True)
class ToolCall:
    """A tool call that the model made.

    >>> result = client.generate_once("gemma3:270m", "call now", tools=[now])
    >>> result.tool_calls[0].name, result.tool_calls[0].arguments
    ('now', {})
    """

    id: str
    name: str
    arguments_json: str

    @property
    def arguments(self) -> Any:
        """The parsed arguments. Raises ValueError if they are not JSON.

        >>> eudai.ToolCall("call-1", "weather", '{"city": "Rome"}').arguments
        {'city': 'Rome'}
        """
        return json.loads(self.arguments_json)


@dataclass(frozen=True)
class Usage:
    """The numbers of tokens of a generation; None if Ollama did not report them.

    >>> client.generate_once("gemma3:270m", "hi").usage
    Usage(input_tokens=2, output_tokens=3)
    """

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Timings:
    """How long each phase took, in seconds; None if it did not happen or is not known.

    >>> client.generate_once("gemma3:270m", "hi").timings.total_s
    0.25
    """

    queue_s: float | None = None
    load_s: float | None = None
    prompt_s: float | None = None
    generate_s: float | None = None
    first_output_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True)
class GenerationWarning:
    """A problem that did not fail the call.

    >>> client.generate_once("gemma3:270m", "warn me").warnings[0].code
    'OPTION_IGNORED'
    """

    code: str
    message: str
    field: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True)
class Result:
    """The output of a generation.

    `finish_reason` is "STOP", "LENGTH", "TOOL_CALLS", "TIME_BUDGET" or "CONTEXT_LENGTH"; it is
    empty if the generation is not complete, as in `EudaiError.partial`. `message` can be appended
    to a conversation.

    >>> result = client.generate_once("gemma3:270m", "hi")
    >>> result.text, result.finish_reason, result.model
    ('Hello there!', 'STOP', 'gemma3:270m')
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    usage: Usage = Usage()
    timings: Timings = Timings()
    warnings: tuple[GenerationWarning, ...] = ()
    generation_id: str = ""
    model: str = ""
    digest: str = ""
    context_length: int = 0
    request_id: str = ""
    seed: int | None = None
    ollama_version: str = ""
    logprobs: tuple[pb.TokenLogprob, ...] = field(default=(), repr=False)
    reasoning_logprobs: tuple[pb.TokenLogprob, ...] = field(default=(), repr=False)

    @property
    def message(self) -> content_pb2.Message:
        """The message of the assistant: reasoning, text and tool calls.

        >>> client.generate_once("gemma3:270m", "hi").message.parts[0].text
        'Hello there!'
        """
        message = content_pb2.Message(role=content_pb2.ROLE_ASSISTANT)
        if self.reasoning:
            message.parts.add(reasoning=self.reasoning)
        if self.text:
            message.parts.add(text=self.text)
        for call in self.tool_calls:
            message.tool_calls.add(id=call.id, name=call.name, arguments_json=call.arguments_json)
        return message


class ResultBuilder:
    """Collects the events of one generation."""

    def __init__(self) -> None:
        """Start without events."""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []
        self._warnings: list[GenerationWarning] = []
        self._logprobs: list[pb.TokenLogprob] = []
        self._reasoning_logprobs: list[pb.TokenLogprob] = []
        self._started = pb.Started()
        self._finished = pb.Finished()
        self.is_finished = False

    def add(self, event: pb.GenerateResponse) -> None:
        """Add an event. Events of an unknown kind are ignored."""
        match event.WhichOneof("event"):
            case "started":
                self._started = event.started
            case "delta":
                self._add_delta(event.delta)
            case "tool_call":
                call = event.tool_call
                self._tool_calls.append(ToolCall(call.id, call.name, call.arguments_json))
            case "warning":
                self._warnings.append(_warning_from(event.warning))
            case "finished":
                self._finished = event.finished
                self._logprobs += event.finished.logprobs
                self.is_finished = True

    def result(self) -> Result:
        """What has arrived so far."""
        started, finished = self._started, self._finished
        reason = _name(pb.FinishReason, finished.reason, "FINISH_REASON_")
        return Result(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._tool_calls),
            finish_reason=reason if self.is_finished else "",
            usage=Usage(**{each.name: value for each, value in finished.usage.ListFields()}),
            timings=Timings(
                **{
                    f"{each.name}_s": _seconds(value)
                    for each, value in finished.timings.ListFields()
                }
            ),
            warnings=tuple(self._warnings),
            generation_id=started.generation_id,
            model=started.model,
            digest=started.digest,
            context_length=started.context_length,
            request_id=started.request_id,
            seed=started.seed if started.HasField("seed") else None,
            ollama_version=started.ollama_version,
            logprobs=tuple(self._logprobs),
            reasoning_logprobs=tuple(self._reasoning_logprobs),
        )

    def _add_delta(self, delta: pb.Delta) -> None:
        if delta.WhichOneof("channel") == "reasoning":
            self._reasoning.append(delta.reasoning)
            self._reasoning_logprobs += delta.logprobs
        else:
            self._text.append(delta.text)
            self._logprobs += delta.logprobs


def result_from(generation: pb.Generation) -> Result:
    """The result of GenerateOnce."""
    builder = ResultBuilder()
    for event in _events_of(generation):
        builder.add(event)
    return builder.result()


def _events_of(generation: pb.Generation) -> Iterator[pb.GenerateResponse]:
    """The events of which Generate would have sent the same result."""
    message = generation.message
    text = "".join(part.text for part in message.parts)
    reasoning = "".join(part.reasoning for part in message.parts)
    yield pb.GenerateResponse(started=generation.started)
    yield pb.GenerateResponse(
        delta=pb.Delta(reasoning=reasoning, logprobs=generation.reasoning_logprobs)
    )
    yield pb.GenerateResponse(delta=pb.Delta(text=text, logprobs=generation.logprobs))
    for call in message.tool_calls:
        yield pb.GenerateResponse(tool_call=call)
    for warning in generation.warnings:
        yield pb.GenerateResponse(warning=warning)
    yield pb.GenerateResponse(finished=generation.finished)


def _warning_from(warning: pb.GenerationWarning) -> GenerationWarning:
    code = _name(pb.GenerationWarningCode, warning.code, "GENERATION_WARNING_CODE_")
    return GenerationWarning(code, warning.message, warning.field, warning.tool_call_id)


def _name(enum: Any, number: int, prefix: str) -> str:
    """The name of an enum value; "UNKNOWN_7" if it is newer than this client."""
    try:
        return str(enum.Name(number)).removeprefix(prefix)
    except ValueError:
        return f"UNKNOWN_{number}"


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
