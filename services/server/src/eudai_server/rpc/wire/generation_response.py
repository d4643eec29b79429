"""Converts the events of a generation to responses: one each, or one for all of them. No I/O."""

from dataclasses import fields

from eudai.v1 import content_pb2, generation_service_pb2 as pb

from eudai_server.core.events import (
    Channel,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerationWarning,
    GenerationWarningCode,
    Logprob,
    Phase,
    Progress,
    Started,
    Timings,
    TokenLogprob,
    ToolCall,
)
from eudai_server.rpc.wire.content import tool_call_from
from eudai_server.rpc.wire.values import EnumCodec, duration_from

GENERATION_PHASES = EnumCodec(pb.GenerationPhase, Phase)
_WARNING_CODES = EnumCodec(pb.GenerationWarningCode, GenerationWarningCode)
_FINISH_REASONS = EnumCodec(pb.FinishReason, FinishReason)
_DURATIONS = [field.name.removesuffix("_ns") for field in fields(Timings)]


def response_from(event: Event) -> pb.GenerateResponse:
    """Convert one event."""
    match event:
        case Delta():
            return pb.GenerateResponse(delta=_delta_from(event))
        case ToolCall():
            return pb.GenerateResponse(tool_call=tool_call_from(event))
        case Started():
            return pb.GenerateResponse(started=_started_from(event))
        case Progress():
            return pb.GenerateResponse(progress=_progress_from(event))
        case GenerationWarning():
            return pb.GenerateResponse(warning=_warning_from(event))
        case Finished():
            return pb.GenerateResponse(finished=_finished_from(event))


class GenerationBuilder:
    """Builds the response of GenerateOnce from the events of a generation."""

    def __init__(self) -> None:
        """Start without events."""
        self._message = pb.Generation(message=content_pb2.Message(role=content_pb2.ROLE_ASSISTANT))
        self._texts: list[str] = []
        self._reasonings: list[str] = []

    def add(self, event: Event) -> None:
        """Add one event. Progress is not part of the response."""
        message = self._message
        match event:
            case Delta(channel=Channel.REASONING):
                self._reasonings.append(event.text)
                message.reasoning_logprobs.extend(map(_token_logprob_from, event.logprobs))
            case Delta():
                self._texts.append(event.text)
                message.logprobs.extend(map(_token_logprob_from, event.logprobs))
            case ToolCall():
                message.message.tool_calls.append(tool_call_from(event))
            case Started():
                message.started.CopyFrom(_started_from(event))
            case GenerationWarning():
                message.warnings.append(_warning_from(event))
            case Finished():
                message.finished.CopyFrom(_finished_from(event))

    def build(self) -> pb.GenerateOnceResponse:
        """The response, after the last event."""
        parts = self._message.message.parts
        if self._reasonings:
            parts.add(reasoning="".join(self._reasonings))
        if self._texts:
            parts.add(text="".join(self._texts))
        return pb.GenerateOnceResponse(generation=self._message)


def _delta_from(delta: Delta) -> pb.Delta:
    logprobs = map(_token_logprob_from, delta.logprobs)
    if delta.channel is Channel.REASONING:
        return pb.Delta(reasoning=delta.text, logprobs=logprobs)
    return pb.Delta(text=delta.text, logprobs=logprobs)


def _token_logprob_from(token: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(chosen=_logprob_from(token.chosen), top=map(_logprob_from, token.top))


def _logprob_from(logprob: Logprob) -> pb.Logprob:
    return pb.Logprob(token=logprob.token, token_bytes=logprob.token_bytes, logprob=logprob.logprob)


def _started_from(started: Started) -> pb.Started:
    message = pb.Started(
        generation_id=started.generation_id,
        request_id=started.request_id,
        seed=started.seed,
        ollama_version=started.backend_version,
        model=started.model,
        digest=started.digest,
        context_length=started.context_length,
    )
    if started.start_time:
        message.start_time.seconds = int(started.start_time.timestamp())
        message.start_time.nanos = started.start_time.microsecond * 1000
    return message


def _progress_from(progress: Progress) -> pb.GenerationProgress:
    return pb.GenerationProgress(
        phase=GENERATION_PHASES.encode(progress.phase),
        requests_ahead=progress.requests_ahead,
        elapsed=duration_from(progress.elapsed_ns),
    )


def _warning_from(warning: GenerationWarning) -> pb.GenerationWarning:
    return pb.GenerationWarning(
        code=_WARNING_CODES.encode(warning.code),
        message=warning.message,
        field=warning.field,
        tool_call_id=warning.tool_call_id,
    )


def _finished_from(finished: Finished) -> pb.Finished:
    return pb.Finished(
        reason=_FINISH_REASONS.encode(finished.reason),
        usage=pb.Usage(
            input_tokens=finished.usage.input_tokens, output_tokens=finished.usage.output_tokens
        ),
        timings=_timings_from(finished.timings),
        backend_reason=finished.backend_reason,
        logprobs=map(_token_logprob_from, finished.logprobs),
    )


def _timings_from(timings: Timings) -> pb.Timings:
    durations = {name: getattr(timings, f"{name}_ns") for name in _DURATIONS}
    return pb.Timings(
        **{name: duration_from(ns) for name, ns in durations.items() if ns is not None}
    )
