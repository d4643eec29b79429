"""A fault is thrown at each await of a call in turn.

The call must end with a status. Neither it nor the log contains internal text, and nothing may be
left behind.
"""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from eudai.v1 import embedding_service_pb2, embedding_service_pb2_grpc, generation_service_pb2 as pb
from eudai_server.rpc.transport.calls import Calls, Rpc
from failpoint import Failpoint
from refusal import Refusal
from reliability_table import Row
from scripted_ollama import ScriptedOllama, reply, words
from serving import Server, config_for, serving, text_of

SECRET = "secret-http://10.0.0.1:11434"  # noqa: S105 - it must not get out, and opens nothing
MODEL = "gemma3:270m"
STATUS_S = 4.0
POINTS_MAX = 60


@pytest.fixture
async def cold(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Server, list[Failpoint]]]:
    """A server, and a list: its next RPC runs with the failpoint in the list."""
    armed: list[Failpoint] = []
    original = Calls.handler

    def handler(calls: Calls, rpc: Rpc) -> Any:
        async def faulty(request: Any, call: Any) -> Any:
            handling = rpc.handle(request, call)
            if not armed or "Health" in call.method:
                return await handling
            return await armed.pop()(handling)  # type: ignore[arg-type]

        return original(calls, replace(rpc, handle=faulty))

    monkeypatch.setattr(Calls, "handler", handler)
    ollama.scripts["/api/embed"] = reply(
        200, {"model": MODEL, "embeddings": [[1.0, 0.0]], "prompt_eval_count": 1}
    )
    ollama.scripts["/api/generate"] = words("a", "b", "c")
    async with serving(config_for(ollama.url, max_running=1, max_queued=2)) as server:
        await server.until("", "SERVING")
        yield server, armed


async def generate(server: Server) -> str:
    """A generation with everything that adds waits: progress, heartbeats and flushes."""
    request = pb.GenerateRequest(model=MODEL, prompt="hi", events=pb.EventOptions(progress=True))
    request.events.flush_interval.FromMilliseconds(1)
    return text_of([event async for event in server.generation.Generate(request, timeout=5)])


async def generate_with_heartbeats(server: Server) -> str:
    """A generation that runs in a task of its own."""
    request = pb.GenerateRequest(model=MODEL, prompt="hi")
    request.events.heartbeat_interval.FromSeconds(1)
    return text_of([event async for event in server.generation.Generate(request, timeout=5)])


async def generate_once(server: Server) -> str:
    """A unary generation."""
    answer = await server.generation.GenerateOnce(
        pb.GenerateOnceRequest(request=pb.GenerateRequest(model=MODEL, prompt="hi")), timeout=5
    )
    return "".join(part.text for part in answer.generation.message.parts)


async def embed(server: Server) -> str:
    """An embedding."""
    stub = embedding_service_pb2_grpc.EmbeddingServiceStub(server.channel)
    call = stub.Embed(embedding_service_pb2.EmbedRequest(model=MODEL, inputs=["hi"]), timeout=5)
    return "abc" if [part async for part in call] else ""


@pytest.mark.row("R11", "a fault at every await becomes a status at once and leaves nothing behind")
@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError])
@pytest.mark.parametrize("ask", [generate, generate_with_heartbeats, generate_once, embed])
async def test_a_fault_at_any_await_ends_with_a_status(
    cold: tuple[Server, list[Failpoint]],
    ollama: ScriptedOllama,
    ask: Callable[[Server], Awaitable[str]],
    error: type[BaseException],
    figures: Row,
    *,
    json_log: io.StringIO,
) -> None:
    server, armed = cold
    number, took_ms = 0, [0.0]
    while True:
        if number % 2:
            ollama.resident.clear()  # so that some calls need a load
            await asyncio.sleep(0)
        point = Failpoint(number, error, SECRET)
        armed.append(point)
        begin_s = time.monotonic()
        try:
            answered = await ask(server)
        except grpc.aio.AioRpcError as failure:
            refused = Refusal(failure)
            assert refused.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE), (
                number,
                refused.code,
                refused.message,
            )
            assert SECRET not in f"{refused.message}{refused.raw!r}"
        else:
            assert answered == "abc", number
        assert time.monotonic() - begin_s < STATUS_S, number
        while server.app.parts.admission.running or server.app.parts.admission.queued:
            assert time.monotonic() - begin_s < STATUS_S, number
            await asyncio.sleep(0.005)
        if not point.reached:
            break
        took_ms.append((time.monotonic() - begin_s) * 1000)
        number += 1
        assert number < POINTS_MAX
    assert json_log.getvalue().count('"internal error"') >= 3
    assert SECRET not in json_log.getvalue()
    async with asyncio.timeout(STATUS_S):
        while ollama.open_connections > 2:  # those of the probe
            await asyncio.sleep(0.01)
    figures.count(f"{ask.__name__}, {error.__name__}: at each of its waits", number, ">=", 3)
    figures.time("fault to status and to no slot held, worst ms", max(took_ms), "<=", 100)
    assert await ask(server) == "abc"
