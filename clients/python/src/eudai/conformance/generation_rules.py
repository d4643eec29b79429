"""The rules of successful, cancelled and expired generations."""

import time
from typing import Any

import grpc
from google.rpc import error_details_pb2

from eudai.conformance.calls import CALL_TIMEOUT_S, OUTPUT_TOKENS, Subject
from eudai.conformance.rules import require, rule
from eudai.v1 import generation_service_pb2 as pb, options_pb2, server_service_pb2 as server_pb

STOP_TIMEOUT_S = 20.0
DEADLINE_S = 1.0
LONG_OUTPUT_TOKENS = 4096


@rule
def started_once_first(subject: Subject) -> None:
    """Each stream has one Started, before any Delta and ToolCall."""
    kinds = subject.answer.kinds
    require(kinds.count("started") == 1, f"{kinds.count('started')} Started events")
    before = set(kinds[: kinds.index("started")])
    require(before <= {"progress", "warning"}, f"before Started: {', '.join(before)}")


@rule
def finished_once_last(subject: Subject) -> None:
    """Each successful stream has one Finished, and nothing after it."""
    kinds = subject.answer.kinds
    require(kinds.count("finished") == 1, f"{kinds.count('finished')} Finished events")
    require(kinds[-1] == "finished", f"after Finished: {kinds[-1] or 'an unknown event'}")


@rule
def deltas_not_empty(subject: Subject) -> None:
    """There is a Delta, and each has text or reasoning."""
    deltas = subject.answer.all("delta")
    require(deltas, "no Delta")
    require(all(delta.text or delta.reasoning for delta in deltas), "a Delta without output")


@rule
def progress_only_if_asked(subject: Subject) -> None:
    """Without EventOptions, there is no GenerationProgress."""
    require("progress" not in subject.answer.kinds, "a GenerationProgress that was not asked for")


@rule
def usage_agrees(subject: Subject) -> None:
    """Finished has the token counts, and the trailing metadata has the same."""
    usage, trailing = subject.answer.finished.usage, subject.answer.trailing
    require(usage.input_tokens > 0, "Finished has no input_tokens")
    require(0 < usage.output_tokens <= OUTPUT_TOKENS, f"output_tokens is {usage.output_tokens}")
    for name, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        sent = trailing.get(f"eudai-{name}-tokens")
        require(sent == str(count), f"eudai-{name}-tokens is {sent!r}, and Finished has {count}")


@rule
def finish_reason_agrees(subject: Subject) -> None:
    """Finished has a reason, and the trailing metadata has the same."""
    reason = pb.FinishReason.Name(subject.answer.finished.reason).removeprefix("FINISH_REASON_")
    sent = subject.answer.trailing.get("eudai-finish-reason")
    require(reason != "UNSPECIFIED", "Finished has no reason")
    require(sent == reason, f"eudai-finish-reason is {sent!r}, and Finished has {reason}")


@rule
def generation_id_agrees(subject: Subject) -> None:
    """The initial metadata has the id of Started, and each generation has another one."""
    started, initial = subject.answer.started, subject.answer.initial
    sent = initial.get("eudai-generation-id")
    require(started.generation_id, "Started has no generation_id")
    require(sent == started.generation_id, f"eudai-generation-id is {sent!r}, not the started one")
    require(subject.generate().started.generation_id != sent, "two generations with one id")


@rule
def request_id_echoed(subject: Subject) -> None:
    """The caller's eudai-request-id is in Started, in the metadata and in failures."""
    sent = ("eudai-request-id", "conformance-1")
    answer = subject.generate(sent)
    failure = subject.failure(subject.generation.Generate, pb.GenerateRequest(), sent)
    info = failure.detail(error_details_pb2.ErrorInfo)
    require(answer.started.request_id == sent[1], "not in Started")
    require(answer.initial.get(sent[0]) == sent[1], "not in the initial metadata")
    require(failure.trailing.get(sent[0]) == sent[1], "not in the trailing metadata of a failure")
    require(info.metadata["request_id"] == sent[1], "not in the ErrorInfo of a failure")


@rule
def once_agrees_with_stream(subject: Subject) -> None:
    """GenerateOnce returns what the events of Generate add up to."""
    answer, once = subject.answer, subject.once
    parts = [(part.reasoning, part.text) for part in once.message.parts]
    for channel, name in enumerate(("reasoning", "text")):
        streamed = "".join(getattr(delta, name) for delta in answer.all("delta"))
        whole = "".join(part[channel] for part in parts)
        require(whole == streamed, f"{name}: {whole!r}, and Generate streamed {streamed!r}")
    require(once.finished.reason == answer.finished.reason, "another finish reason")
    require(once.finished.usage == answer.finished.usage, "another usage")


@rule
def cancellation_stops_the_model(subject: Subject) -> None:
    """A generation whose caller leaves does not run on."""
    before = _running(subject)
    stop = options_pb2.StopOptions(max_output_tokens=LONG_OUTPUT_TOKENS)
    call = subject.generation.Generate(subject.request(stop=stop), timeout=CALL_TIMEOUT_S)
    next(call)
    call.cancel()
    _require_stopped(subject, before)


@rule
def deadline_stops_the_model(subject: Subject) -> None:
    """A generation ends at its deadline, and does not run on."""
    before = _running(subject)
    stop = options_pb2.StopOptions(max_output_tokens=LONG_OUTPUT_TOKENS)
    try:
        list(subject.generation.Generate(subject.request(stop=stop), timeout=DEADLINE_S))
    except grpc.RpcError as error:
        failed: Any = error
        expected = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        require(failed.code() in expected, f"the call failed with {failed.code().name}")
    _require_stopped(subject, before)


def _running(subject: Subject) -> int:
    info = subject.server.GetServerInfo(server_pb.GetServerInfoRequest(), timeout=CALL_TIMEOUT_S)
    return int(info.running)


def _require_stopped(subject: Subject, before: int) -> None:
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while _running(subject) > before:
        require(time.monotonic() < deadline_s, f"it still runs after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
