"""Promises that single comments of the contract make."""

import asyncio

import grpc
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from refusal import Refusal, refusal
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    ScriptedOllama,
    chunk,
    done,
    error,
    line,
    reply,
    stream,
)
from serving import Server, collect, config_for, kinds, serving

THINKER = "deepseek-r1:1.5b"
USER = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x")])
TENTH = Duration(nanos=100_000_000)


async def test_an_ollama_without_the_route_is_reported_with_its_version(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = reply(404, "404 page not found", "text/plain")
    refused = await refusal(server, prompt="x")

    assert refused.reason == "BACKEND_UNSUPPORTED"
    assert dict(refused.details["ErrorInfo"].metadata) == {"ollama_version": "0.32.15"}


@pytest.mark.parametrize(
    ("message", "capability"),
    [
        ("image input is not supported - hint: you may need the mmproj", "vision"),
        ("audio input is not supported", "audio"),
        ('think value "low" is not supported for this model', "thinking"),
        ('"gemma3:270m" does not support tools', "tools"),
        ("this model does not support embeddings", "embedding"),
    ],
)
async def test_a_missing_capability_is_named(
    server: Server, ollama: ScriptedOllama, message: str, capability: str
) -> None:
    ollama.scripts["/api/generate"] = error(400, message)
    refused = await refusal(server, prompt="x")

    assert refused.reason == "CAPABILITY_UNSUPPORTED"
    assert dict(refused.details["ErrorInfo"].metadata) == {
        "model": "gemma3:270m",
        "capability": capability,
    }


async def test_a_request_that_never_reached_ollama_has_no_start_time(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.load_script = [60.0]
    events = await collect(server, prompt="x", time_budget=TENTH)

    assert kinds(events) == ["started", "finished"]
    assert events[1].finished.reason == pb.FINISH_REASON_TIME_BUDGET
    assert not events[0].started.HasField("start_time")


async def test_a_request_that_reached_ollama_has_a_start_time(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    events = await collect(server, prompt="x", time_budget=TENTH)

    assert events[1].finished.reason == pb.FINISH_REASON_TIME_BUDGET
    assert events[0].started.start_time.seconds > 0


async def test_a_heartbeat_in_the_queue_reports_how_many_are_ahead(ollama: ScriptedOllama) -> None:
    release = ollama.hold()
    options = pb.EventOptions(heartbeat_interval=TENTH)
    async with serving(config_for(ollama.url, max_running=1)) as server:
        await server.until("", "SERVING")
        running = asyncio.create_task(collect(server, prompt="x"))
        while not ollama.sent_to("/api/generate"):
            await asyncio.sleep(0.01)
        request = pb.GenerateRequest(model="gemma3:270m", prompt="x", events=options)
        call = server.generation.Generate(request, timeout=20)
        queued = [(await call.read()).progress for _ in range(3)]
        release.set()
        await running
        call.cancel()

    assert {progress.phase for progress in queued} == {pb.GENERATION_PHASE_QUEUED}
    assert [progress.requests_ahead for progress in queued] == [1, 1, 1]


async def test_hidden_reasoning_has_no_log_probabilities(
    server: Server, ollama: ScriptedOllama
) -> None:
    def token(text: str, **fields: str) -> bytes:
        return line(done=False, logprobs=[{"token": text, "logprob": -1.0}], **fields)

    ollama.scripts["/api/generate"] = stream(
        token("SECRET 0", response=""),
        token("SECRET 1", response="", thinking="hm"),
        token("SECRET 2", response=""),  # an incomplete character of the reasoning
        token("yes", response="yes"),
        token("half", response=""),
        done(),
    )
    events = await collect(
        server,
        model=THINKER,
        prompt="x",
        reasoning=pb.ReasoningOptions(hide=True),
        logprobs=pb.LogprobOptions(),
    )
    sent = b"".join(event.SerializeToString() for event in events)

    assert b"SECRET" not in sent
    assert [token.chosen.token for token in events[1].delta.logprobs] == ["yes"]
    assert [token.chosen.token for token in events[-1].finished.logprobs] == ["half"]


async def test_the_violations_of_the_unary_call_name_its_own_fields(server: Server) -> None:
    request = pb.GenerateOnceRequest(request=pb.GenerateRequest(model="a b"))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await server.generation.GenerateOnce(request, timeout=10)
    refused = Refusal(failure.value)

    assert refused.fields == ["request.model", "request.input"]
    assert refused.message.startswith("request.model: ")


LOST = {
    "at the top": ('{"type":"object","description":"d","properties":{}}', "description"),
    "in a property": (
        '{"type":"object","properties":{"a":{"type":"object","$defs":{}}}}',
        "$defs",
    ),
    "in a property of a choice": (
        '{"type":"object","properties":{"a":{"anyOf":[{"type":"integer","minimum":1}]}}}',
        "minimum",
    ),
}


@pytest.mark.parametrize("case", LOST)
async def test_keywords_that_ollama_drops_bring_warnings_at_every_level(
    server: Server, ollama: ScriptedOllama, case: str
) -> None:
    schema, keyword = LOST[case]
    ollama.scripts["/api/chat"] = stream(done())
    tool = content_pb2.Tool(name="f", parameters_schema=schema)
    events = await collect(server, conversation=pb.Conversation(messages=[USER]), tools=[tool])

    assert events[0].warning.code == pb.GENERATION_WARNING_CODE_OPTION_IGNORED
    assert events[0].warning.message.endswith(f": {keyword}")


async def test_keywords_that_ollama_keeps_bring_no_warning(
    server: Server, ollama: ScriptedOllama
) -> None:
    schema = (
        '{"type":"object","required":["a"],"$defs":{"n":{"type":"integer","minimum":1}},'
        '"properties":{"a":{"type":"array","description":"d","items":{"$ref":"#/$defs/n"}},'
        '"description":{"type":"string","enum":["x"]}}}'
    )
    ollama.scripts["/api/chat"] = stream(done())
    tool = content_pb2.Tool(name="f", parameters_schema=schema)
    events = await collect(server, conversation=pb.Conversation(messages=[USER]), tools=[tool])

    assert kinds(events) == ["started", "finished"]


@pytest.mark.parametrize(("content", "warned"), [("", False), ("Let me see.", True)])
async def test_a_turn_of_tool_calls_need_not_match_the_format(
    server: Server,
    ollama: ScriptedOllama,
    content: str,
    warned: bool,
) -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    ollama.scripts["/api/chat"] = [
        HEADERS_STREAM,
        chunk(line(message=message, done=False)),
        chunk(done()),
        END,
    ]
    events = await collect(
        server,
        conversation=pb.Conversation(messages=[USER]),
        tools=[content_pb2.Tool(name="f")],
        format=pb.OutputFormat(any_json=pb.AnyJsonFormat()),
    )

    assert ("warning" in kinds(events)) is warned
