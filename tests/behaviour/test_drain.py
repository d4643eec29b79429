"""The drain: health reports it, running calls finish or end with a status, the process exits."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from eudai.v1 import (
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    generation_service_pb2 as pb,
)
from eudai_server.app import DRAINING
from eudai_server.core.readiness import Readiness
from eudai_server.rpc.access.authenticator import Authenticator
from eudai_server.rpc.services.health import HealthService
from eudai_server.rpc.transport.calls import Calls, Rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refusal import Refusal, refused
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, chunk, done, line
from serving import collect, config_for, serving, text_of

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")


async def test_running_calls_finish(ollama: ScriptedOllama) -> None:
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
        await ollama.until_sent("/api/generate", 1)
        await server.app.drain()

        assert text_of(await running) == "a"


async def test_readiness_ends_first_and_liveness_stays(ollama: ScriptedOllama) -> None:
    async with serving(config_for(ollama.url, lame_duck_s=60.0)) as server:
        await server.until("", "SERVING")
        draining = asyncio.create_task(server.app.drain())
        await server.until("", "NOT_SERVING")

        assert await server.health("model/gemma3:270m") == "NOT_SERVING"
        assert await server.health("liveness") == "SERVING"
        assert text_of(await collect(server, prompt="still accepted")) == "Hello world"
        server.app.hurry()
        await draining


class _SlowClient:
    """The gRPC context of a health watch whose first message takes until `reads` is set."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.statuses: list[int] = []
        self.code: grpc.StatusCode | None = None

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> None:
        return None

    async def send_initial_metadata(self, _metadata: object) -> None:
        pass

    async def read(self) -> bytes:
        data: bytes = health_pb2.HealthCheckRequest(service="").SerializeToString()
        return data

    async def write(self, message: bytes) -> None:
        self.statuses.append(health_pb2.HealthCheckResponse.FromString(message).status)
        await self.reads.wait()

    async def abort(self, code: grpc.StatusCode, _message: str, _trailers: object) -> None:
        self.code = code
        raise grpc.aio.AbortError


async def test_a_watch_reports_a_drain_that_begins_while_it_writes() -> None:
    readiness, calls, client = Readiness(), Calls(30, Authenticator()), _SlowClient()
    context: Any = client
    readiness.update(backend_up=True, models=frozenset({"a"}))
    handle = HealthService(readiness, ()).watch
    kind = health_pb2.HealthCheckRequest
    rpc = Rpc(method="Watch", request_class=kind, handle=handle, scope=None, idle=True)
    handler: Any = calls.handler(rpc)
    watching = asyncio.create_task(handler.stream_stream(iter(()), context))
    async with asyncio.timeout(5):
        while not client.statuses:
            await asyncio.sleep(0)
    readiness.drain()
    calls.end(*DRAINING, idle_only=True)
    client.reads.set()
    await asyncio.wait((watching,), timeout=5)

    assert watching.done()
    assert isinstance(watching.exception(), grpc.aio.AbortError)
    assert client.statuses == [SERVING, NOT_SERVING]
    assert client.code is grpc.StatusCode.UNAVAILABLE


async def test_an_open_health_watch_does_not_delay_the_exit(ollama: ScriptedOllama) -> None:
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
        assert time.monotonic() - begin_s < 15  # less than the grace of 30 s


async def test_calls_that_outlive_the_grace_end_with_a_status(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="a", done=False)), 60.0]
    async with serving(config_for(ollama.url, drain_grace_s=0.3)) as server:
        await server.until("", "SERVING")
        running = asyncio.create_task(collect(server, prompt="hi"))
        await ollama.until_sent("/api/generate", 1)
        await server.app.drain()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await running
    cut = Refusal(failure.value)

    assert (cut.code, cut.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert cut.trailers["grpc-retry-pushback-ms"] == "-1"
    assert "RetryInfo" in cut.details
    await asyncio.wait_for(ollama.sent_to("/api/generate")[0].closed.wait(), 10)


async def test_calls_cut_in_the_queue_may_be_retried(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="a", done=False)), 60.0]
    async with serving(config_for(ollama.url, drain_grace_s=0.2, max_running=1)) as server:
        await server.until("", "SERVING")
        running = asyncio.create_task(collect(server, prompt="hi"))
        await server.until_admitted(running=1, queued=0)
        waiting = asyncio.create_task(collect(server, prompt="hi"))
        await server.until_admitted(running=1, queued=1)
        await server.app.drain()
        await asyncio.wait((running, waiting))
    cut = Refusal(waiting.exception())  # type: ignore[arg-type]

    assert cut.reason == "DRAINING"
    assert cut.trailers["grpc-retry-pushback-ms"] == "0"
    assert "RetryInfo" in cut.details


async def test_an_embedding_cut_after_it_was_sent_may_not_be_retried(
    ollama: ScriptedOllama,
) -> None:
    ollama.scripts["/api/embed"] = [60.0]
    async with serving(config_for(ollama.url, drain_grace_s=0.2)) as server:
        await server.until("", "SERVING")
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(server.channel)
        request = embedding_service_pb2.EmbedRequest(model="gemma3:270m", inputs=["x"])
        running = asyncio.create_task(refused(stub.Embed(request)))
        await ollama.until_sent("/api/embed", 1)
        await server.app.drain()
        cut = await running

    assert cut.reason == "DRAINING"
    assert cut.trailers["grpc-retry-pushback-ms"] == "-1"
    assert "RetryInfo" in cut.details
