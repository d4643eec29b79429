"""Calls that end early: the stream to Ollama is closed, but a load that others may want goes on."""

import asyncio

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from scripted_ollama import (
    END,
    ENDLESS,
    HEADERS_STREAM,
    Exchange,
    ScriptedOllama,
    chunk,
    done,
    line,
    reply,
)
from serving import Server, collect, config_for, serving, text_of

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
CLOSED_TIMEOUT_S = 2.0


async def closed(exchange: Exchange) -> None:
    """Wait until a connection has ended."""
    async with asyncio.timeout(CLOSED_TIMEOUT_S):
        await exchange.closed.wait()


async def test_cancelling_closes_the_stream_to_ollama(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    call = server.generation.Generate(REQUEST)
    for _ in range(4):
        await call.read()
    call.cancel()
    exchange = ollama.sent_to("/api/generate")[0]
    await closed(exchange)

    assert ollama.open_connections <= 2  # those of the probe


async def test_a_deadline_closes_the_stream(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async for _ in server.generation.Generate(REQUEST, timeout=1):
            pass
    await closed(ollama.sent_to("/api/generate")[0])

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancelling_before_the_first_event_closes_the_stream(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    call = server.generation.Generate(REQUEST)
    reading = asyncio.ensure_future(call.read())
    while not ollama.sent_to("/api/generate"):
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await closed(ollama.sent_to("/api/generate")[0])


async def test_a_client_that_stops_reading_and_leaves_closes_the_stream(
    server: Server, ollama: ScriptedOllama
) -> None:
    flood = chunk(b"".join(line(response="x" * 1000, done=False) for _ in range(60)))
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, *[flood] * 1000]
    call = server.generation.Generate(REQUEST)
    await call.read()
    # Meanwhile flow control blocks the server's write; no event shows this.
    await asyncio.sleep(0.5)
    call.cancel()
    await closed(ollama.sent_to("/api/generate")[0])


async def test_cancellations_at_any_moment_leave_nothing_behind(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    for milliseconds in range(60):
        call = server.generation.Generate(REQUEST)
        await asyncio.sleep(milliseconds / 2000)  # the moment
        call.cancel()
    for exchange in ollama.sent_to("/api/generate"):
        await closed(exchange)
    ollama.scripts.clear()

    assert text_of(await collect(server, prompt="still there?")) == "Hello world"


async def test_a_caller_who_leaves_does_not_abort_the_load(
    server: Server, ollama: ScriptedOllama
) -> None:
    loaded = asyncio.Event()
    ollama.load_script = [loaded, *reply(200, {"done": True, "done_reason": "load"})]
    leaving = server.generation.Generate(REQUEST)
    reading = asyncio.ensure_future(leaving.read())
    while not ollama.loads():
        await asyncio.sleep(0.01)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await server.until_admitted(running=0, queued=0)
    staying = asyncio.create_task(collect(server, prompt="hi"))
    await server.until_admitted(running=1, queued=0)
    await asyncio.sleep(0.1)  # meanwhile the load is not closed, and no other is sent
    load = ollama.loads()[0]

    assert not load.closed.is_set()
    loaded.set()
    assert text_of(await staying) == "Hello world"
    assert len(ollama.loads()) == 1


async def test_ten_callers_share_one_load(server: Server, ollama: ScriptedOllama) -> None:
    ollama.load_script = [0.2, *reply(200, {"done": True, "done_reason": "load"})]
    answers = await asyncio.gather(*(collect(server, prompt="hi") for _ in range(10)))

    assert {text_of(answer) for answer in answers} == {"Hello world"}
    assert len(ollama.loads()) == 1


async def test_the_load_time_is_reported(server: Server, ollama: ScriptedOllama) -> None:
    ollama.load_script = [0.3, *reply(200, {"done": True, "done_reason": "load"})]
    cold, warm = [(await collect(server, prompt="hi"))[-1].finished.timings for _ in range(2)]

    assert cold.load.ToMilliseconds() >= 300
    assert warm.load.ToMilliseconds() < cold.load.ToMilliseconds()


async def test_different_load_options_load_the_model_again(
    server: Server, ollama: ScriptedOllama
) -> None:
    request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
    request.load.context_length = 2048
    await collect(server, prompt="hi")
    [_ async for _ in server.generation.Generate(request, timeout=10)]

    assert [exchange.body["options"] for exchange in ollama.loads()] == [{}, {"num_ctx": 2048}]


async def test_a_time_budget_ends_the_answer_without_an_error(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    events = await collect(server, prompt="hi", time_budget=Duration(seconds=1))
    finished = events[-1].finished

    assert finished.reason == pb.FINISH_REASON_TIME_BUDGET
    assert text_of(events).startswith("xx")
    assert not finished.usage.HasField("output_tokens")
    await closed(ollama.sent_to("/api/generate")[0])


async def test_a_time_budget_that_ends_before_the_first_output_is_not_an_error(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    events = await collect(server, prompt="hi", time_budget=Duration(nanos=200_000_000))

    assert [event.WhichOneof("event") for event in events] == ["started", "finished"]


async def test_a_silent_ollama_fails_the_call(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [
        HEADERS_STREAM,
        chunk(line(response="x", done=False)),
        60.0,
        chunk(done()),
        END,
    ]
    async with serving(config_for(ollama.url, event_timeout_s=0.5)) as server:
        await server.until("", "SERVING")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await collect(server, prompt="hi")

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "0.5 s" in (failure.value.details() or "")
    await closed(ollama.sent_to("/api/generate")[0])
