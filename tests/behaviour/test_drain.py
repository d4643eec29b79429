"""A server that is told to stop says so, finishes what runs, and leaves; what it must cut gets a status."""

import asyncio
import time

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refusal import Refusal
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, chunk, done, line
from serving import collect, config_for, serving, text_of

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")


async def test_what_runs_finishes(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [
        HEADERS_STREAM,
        chunk(line(response="a", done=False)),
        0.5,
        chunk(done()),
        END,
    ]
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "SERVING")
        running = asyncio.create_task(collect(server, prompt="hi"))
        await asyncio.sleep(0.2)
        await server.app.drain()

        assert text_of(await running) == "a"


async def test_readiness_goes_first_and_liveness_stays(ollama: ScriptedOllama) -> None:
    async with serving(config_for(ollama.url, lame_duck_s=0.5)) as server:
        await server.until("", "SERVING")
        draining = asyncio.create_task(server.app.drain())
        await asyncio.sleep(0.05)

        assert await server.health("") == "NOT_SERVING"
        assert await server.health("model/gemma3:270m") == "NOT_SERVING"
        assert await server.health("liveness") == "SERVING"
        assert text_of(await collect(server, prompt="still accepted")) == "Hello world"
        await draining


async def test_an_open_watch_does_not_hold_the_exit(ollama: ScriptedOllama) -> None:
    async with serving(config_for(ollama.url, drain_grace_s=30.0)) as server:
        await server.until("", "SERVING")
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(
            health_pb2.HealthCheckRequest(service="")
        )
        await watch.read()
        begin_s = time.monotonic()
        await server.app.drain()

        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await watch.read()
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - begin_s < 5


async def test_what_outlives_the_grace_is_cut_with_a_status(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="a", done=False)), 60.0]
    async with serving(config_for(ollama.url, drain_grace_s=0.3)) as server:
        await server.until("", "SERVING")
        running = asyncio.create_task(collect(server, prompt="hi"))
        await asyncio.sleep(0.2)
        await server.app.drain()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await running
    refused = Refusal(failure.value)

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"
    await asyncio.wait_for(ollama.sent_to("/api/generate")[0].closed.wait(), 2)


async def test_what_was_cut_in_the_queue_may_be_repeated_elsewhere(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="a", done=False)), 60.0]
    async with serving(config_for(ollama.url, drain_grace_s=0.2, max_running=1)) as server:
        await server.until("", "SERVING")
        running, waiting = (asyncio.create_task(collect(server, prompt="hi")) for _ in range(2))
        await asyncio.sleep(0.2)
        await server.app.drain()
        await asyncio.wait((running, waiting))
    refused = Refusal(waiting.exception())  # type: ignore[arg-type]  # a failed call has one of that kind

    assert refused.reason == "DRAINING"
    assert refused.trailers["grpc-retry-pushback-ms"] == "0"
    assert "RetryInfo" in refused.details
