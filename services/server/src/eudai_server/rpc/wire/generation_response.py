"""Converts events to GenerateResponses, and the responses of a stream to one Generation. No I/O."""

from collections.abc import Iterable

from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from eudai_server.core import events as heart

NANOS = 1_000_000_000


def response_from(
    event: heart.Event,
    *,
    id: str,  # noqa: A002 - the proto's word
    elapsed_ns: int,
    first_output_ns: int | None,
) -> pb.GenerateResponse:
    """Convert one event.

    `elapsed_ns` and `first_output_ns` count from the call's arrival; the latter is None before the
    first output.
    """
    match event:
        case heart.Delta():
            return pb.GenerateResponse(delta=_delta(event))
        case heart.ToolCall():
            return pb.GenerateResponse(tool_call=tool_call_from(event))
        case heart.Started():
            return pb.GenerateResponse(started=_started(event, id))
        case heart.Progress():
            phase = pb.GenerationPhase.Value(f"GENERATION_PHASE_{event.phase}")
            progress = pb.GenerationProgress(
                phase=phase, requests_ahead=event.requests_ahead, elapsed=duration_from(elapsed_ns)
            )
            return pb.GenerateResponse(progress=progress)
        case heart.GenerationWarning():
            code = pb.GenerationWarningCode.Value(f"GENERATION_WARNING_CODE_{event.code}")
            warning = pb.GenerationWarning(
                code=code, message=event.message, field=event.field, tool_call_id=event.tool_call_id
            )
            return pb.GenerateResponse(warning=warning)
        case heart.Finished():
            return pb.GenerateResponse(finished=_finished(event, elapsed_ns, first_output_ns))


def generation_from(responses: Iterable[pb.GenerateResponse]) -> pb.Generation:
    """Combine the responses of a stream into what the unary call returns."""
    whole = pb.Generation(message=content_pb2.Message(role=content_pb2.ROLE_ASSISTANT))
    texts: list[str] = []
    reasonings: list[str] = []
    for response in responses:
        match response.WhichOneof("event"):
            case "started":
                whole.started.CopyFrom(response.started)
            case "delta" if response.delta.WhichOneof("channel") == "reasoning":
                reasonings.append(response.delta.reasoning)
                whole.reasoning_logprobs.extend(response.delta.logprobs)
            case "delta":
                texts.append(response.delta.text)
                whole.logprobs.extend(response.delta.logprobs)
            case "tool_call":
                whole.message.tool_calls.append(response.tool_call)
            case "warning":
                whole.warnings.append(response.warning)
            case "finished":
                whole.finished.CopyFrom(response.finished)
    if reasonings:
        whole.message.parts.add(reasoning="".join(reasonings))
    if texts:
        whole.message.parts.add(text="".join(texts))
    return whole


def tool_call_from(call: heart.ToolCall) -> content_pb2.ToolCall:
    """Convert a tool call of the model."""
    return content_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)


def duration_from(nanoseconds: int) -> Duration:
    """Convert nanoseconds, which must not be negative, to a Duration."""
    return Duration(seconds=nanoseconds // NANOS, nanos=nanoseconds % NANOS)


def _delta(delta: heart.Delta) -> pb.Delta:
    message = (
        pb.Delta(reasoning=delta.text)
        if delta.channel is heart.Channel.REASONING
        else pb.Delta(text=delta.text)
    )
    message.logprobs.extend(map(_token_logprob, delta.logprobs))
    return message


def _token_logprob(token: heart.TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(chosen=_logprob(token.chosen), top=map(_logprob, token.top))


def _logprob(logprob: heart.Logprob) -> pb.Logprob:
    return pb.Logprob(token=logprob.token, token_bytes=logprob.token_bytes, logprob=logprob.logprob)


def _started(started: heart.Started, id: str) -> pb.Started:  # noqa: A002 - the proto's word
    message = pb.Started(
        generation_id=id,
        model=started.model,
        digest=started.digest,
        context_length=started.context_length,
    )
    if started.start_time:
        message.start_time.FromDatetime(started.start_time)
    return message


def _finished(
    finished: heart.Finished, elapsed_ns: int, first_output_ns: int | None
) -> pb.Finished:
    timings = pb.Timings(
        queue=duration_from(finished.timings.queue_ns), total=duration_from(elapsed_ns)
    )
    for name, nanoseconds in (
        ("load", finished.timings.load_ns),
        ("prompt", finished.timings.prompt_ns),
        ("generate", finished.timings.generate_ns),
        ("first_output", first_output_ns),
    ):
        if nanoseconds is not None:
            getattr(timings, name).CopyFrom(duration_from(nanoseconds))
    return pb.Finished(
        reason=pb.FinishReason.Value(f"FINISH_REASON_{finished.reason}"),
        usage=pb.Usage(
            input_tokens=finished.usage.input_tokens, output_tokens=finished.usage.output_tokens
        ),
        timings=timings,
        backend_reason=finished.backend_reason,
        logprobs=map(_token_logprob, finished.logprobs),
    )
