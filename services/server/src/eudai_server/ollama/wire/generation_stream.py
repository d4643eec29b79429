"""Decodes the stream of a generation into events, with bounded memory.

No I/O: feed bytes, take events.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

from eudai_server.core.errors import CloudDisabledError, Reason, ServiceError
from eudai_server.core.events import (
    Channel,
    Delta,
    Finished,
    FinishReason,
    GenerationWarning,
    Logprob,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
)
from eudai_server.ollama.wire.errors import error_from_line
from eudai_server.ollama.wire.lines import LineSplitter
from eudai_server.ollama.wire.streamed_pieces import StreamedPieces
from eudai_server.ollama.wire.tool_arguments import alteration_warning

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _WireLogprob(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    bytes: list[_Byte] | None = None
    top_logprobs: list["_WireLogprob"] | None = None


class _WireFunction(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _WireToolCall(msgspec.Struct):
    id: str = ""
    function: _WireFunction = msgspec.field(default_factory=_WireFunction)


class _GenerationMessage(msgspec.Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[_WireToolCall] | None = None


_ABSENT = msgspec.Raw()


class _GenerationLine(msgspec.Struct):
    """The fields of a line that the server uses, of both routes.

    Other fields are skipped, so that a newer Ollama does not fail a stream.
    """

    # Any JSON value. A union with None would accept only null.
    error: msgspec.Raw = _ABSENT
    # Set if the answer comes from another machine.
    remote_host: str = ""
    message: _GenerationMessage | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    logprobs: list[_WireLogprob] | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None


_decoder = msgspec.json.Decoder(_GenerationLine)

Output = Delta | ToolCall | GenerationWarning | Finished


class StreamDecoder:
    """Decodes one answer. The answer is complete only if `finished` is set."""

    def __init__(
        self,
        model: str,
        *,
        generation_id: str = "",
        context_length: int = 0,
        max_output_tokens: int | None = None,
        hide_reasoning: bool = False,
        has_tools: bool = False,
        stop_sequences: Sequence[str] = (),
    ) -> None:
        """`generation_id` becomes part of the ids of tool calls that have none.

        `context_length` is 0 if it is not known.
        """
        # The last event, once Ollama has sent its last line.
        self.finished: Finished | None = None
        self.failure: ServiceError | None = None
        self._model = model
        self._generation_id = generation_id
        self._tool_calls = 0
        self._context_length = context_length
        self._max_output_tokens = max_output_tokens
        self._hide_reasoning = hide_reasoning
        self._stop_sequences = stop_sequences
        self._streamed = StreamedPieces(count_tokens=has_tools)
        self._splitter = LineSplitter()
        # The delta that is being gathered: its channel, its pieces and their log probabilities.
        # Those of pieces without text are added to the next delta.
        self._channel = Channel.TEXT
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._waiting: list[TokenLogprob] = []
        # Whether the last text was reasoning; a following token without text then is too.
        self._is_reasoning = False

    def feed(self, data: bytes) -> list[Output]:
        """Decode the complete lines; output that arrived together is one Delta per channel.

        A malformed line, a line that is too long, or an error sets `failure`; the events before it
        are still returned. Bytes after `failure` or the last line are ignored.
        """
        if self.finished or self.failure:
            return []
        return self._events_from(self._splitter.feed(data))

    def close(self) -> list[Output]:
        """End the stream; its last line may lack a newline. Sets `failure` if it is incomplete."""
        events = self.feed(b"\n")
        if not self.finished and not self.failure:
            self.failure = _repetition() if self._streamed.are_repeating else _interruption()
        return events

    def _events_from(self, lines: Iterable[bytes]) -> list[Output]:
        events: list[Output] = []
        try:
            for line in self._lines_from(lines):
                self._add_texts(events, line)
                if line.message and line.message.tool_calls:
                    self._flush(events)
                    for wire in line.message.tool_calls:
                        events += self._tool_call_from(wire)
                if line.done:
                    self._flush(events)
                    finished = self._finished_from(line)
                    lost = self._streamed.loss_warning(finished, self._stop_sequences)
                    events += [lost, finished] if lost else [finished]
                    self.finished = finished
                    break
        except ServiceError as error:
            self.failure = error
        self._flush(events)
        return events

    def _lines_from(self, lines: Iterable[bytes]) -> Iterator[_GenerationLine]:
        for data in lines:
            try:
                line = _decoder.decode(data)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise _malformed() from error
            if line.error is not _ABSENT and bytes(line.error) != b"null":
                raise error_from_line(bytes(line.error), self._model)
            if line.remote_host:
                raise CloudDisabledError(self._model)
            yield line

    def _add_texts(self, events: list[Output], line: _GenerationLine) -> None:
        """Gather the reasoning and the text of a line, and its log probabilities."""
        if line.message:
            reasoning, text = line.message.thinking, line.message.content
        else:
            reasoning, text = line.thinking, line.response
        self._streamed.add(reasoning + text)
        if reasoning or text:
            self._is_reasoning = not text
        shown = "" if self._hide_reasoning else reasoning
        if shown:
            self._gather(events, Channel.REASONING, shown)
        if text:
            self._gather(events, Channel.TEXT, text)
        if line.logprobs or self._waiting:
            self._add_logprobs(line, is_shown=bool(shown or text))

    def _gather(self, events: list[Output], channel: Channel, text: str) -> None:
        if channel is not self._channel:
            self._flush(events)
            self._channel = channel
        self._texts.append(text)

    def _flush(self, events: list[Output]) -> None:
        if self._texts:
            events.append(Delta(self._channel, "".join(self._texts), tuple(self._logprobs)))
            self._texts.clear()
            self._logprobs.clear()

    def _add_logprobs(self, line: _GenerationLine, *, is_shown: bool) -> None:
        """Keep a line's log probabilities for the next delta; drop those of hidden reasoning."""
        if self._hide_reasoning and self._is_reasoning:
            self._waiting.clear()
        elif line.logprobs:
            self._waiting += [_token_logprob(wire) for wire in line.logprobs]
        if is_shown:
            self._logprobs += self._waiting
            self._waiting.clear()

    def _tool_call_from(self, wire: _WireToolCall) -> list[Output]:
        """The tool call, and a warning if it needs one."""
        self._tool_calls += 1
        made_up = f"call_{self._generation_id}_{self._tool_calls}"
        try:  # what is kept raw has not been checked
            arguments = bytes(wire.function.arguments).decode()
        except UnicodeDecodeError as error:
            raise _malformed() from error
        call = ToolCall(wire.id or made_up, wire.function.name, arguments)
        warning = alteration_warning(call)
        return [call, warning] if warning else [call]

    def _finished_from(self, line: _GenerationLine) -> Finished:
        if line.done_reason in ("load", "unload"):
            raise ServiceError(
                Reason.BACKEND_FAILURE,
                "Ollama treated the request as one to load or unload the model and generated "
                "nothing",
            )
        return Finished(
            reason=self._reason_from(line),
            usage=Usage(line.prompt_eval_count, line.eval_count),
            timings=Timings(
                load_ns=line.load_duration,
                prompt_ns=line.prompt_eval_duration,
                generate_ns=line.eval_duration,
            ),
            backend_reason=line.done_reason,
            logprobs=tuple(self._waiting),
        )

    def _reason_from(self, line: _GenerationLine) -> FinishReason:
        if line.done_reason == "stop":
            return FinishReason.TOOL_CALLS if self._tool_calls else FinishReason.STOP
        if line.done_reason != "length":
            return FinishReason.UNSPECIFIED
        generated = line.eval_count or 0
        if self._max_output_tokens is not None and generated >= self._max_output_tokens:
            return FinishReason.LENGTH
        # Ollama reports "length" for both limits; the number of tokens tells which it was.
        if (
            self._context_length
            and (line.prompt_eval_count or 0) + generated >= self._context_length
        ):
            return FinishReason.CONTEXT_LENGTH
        return FinishReason.LENGTH


def _interruption() -> ServiceError:
    return ServiceError(
        Reason.BACKEND_STREAM_INTERRUPTED,
        "Ollama's answer ended early; the output so far is incomplete",
    )


def _repetition() -> ServiceError:
    return ServiceError(
        Reason.REPETITION_STOPPED,
        "Ollama stopped the answer because the model repeated itself about thirty times in a row; "
        "raise sampling.repeat_penalty or change the prompt",
    )


def _malformed() -> ServiceError:
    return ServiceError(Reason.BACKEND_FAILURE, "Ollama sent a malformed line")


def _token_logprob(wire: _WireLogprob) -> TokenLogprob:
    return TokenLogprob(_logprob(wire), tuple(_logprob(top) for top in wire.top_logprobs or ()))


def _logprob(wire: _WireLogprob) -> Logprob:
    # If Ollama sends no bytes, they are the token's text.
    return Logprob(
        wire.token, wire.token.encode() if wire.bytes is None else bytes(wire.bytes), wire.logprob
    )
