"""The limits of each caller: calls at once and a minute, output, time, and what it may learn."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from eudai_server.core.access import ALL_SCOPES, Scope
from eudai_server.core.call_limits import CallLimits
from eudai_server.rpc.access import call_limiter
from eudai_server.rpc.services.generation_status import COARSE_NS
from eudai_server.rpc.transport import calls
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refusal import Refusal, refused
from scripted_ollama import ENDLESS, ScriptedOllama, words
from serving import Server, config_for, serving
from tokens_file import TokensFile

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
WATCH = health_pb2.HealthCheckRequest()


@pytest.fixture
def tokens(tmp_path: Path) -> TokensFile:
    """An empty tokens file."""
    return TokensFile(tmp_path / "tokens.json")


async def reasons(server: Server, count: int, metadata: Iterable[tuple[str, str]]) -> list[str]:
    """Make calls one after the other; returns how each ended."""
    ended = []
    for _ in range(count):
        call = server.generation.Generate(REQUEST, metadata=metadata, timeout=10)
        try:
            ended.append([event async for event in call][-1].WhichOneof("event"))
        except grpc.aio.AioRpcError as error:
            ended.append(Refusal(error).reason)
    return ended


async def test_a_caller_over_its_calls_at_once_is_refused_and_others_are_not(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    limited, other = tokens.add(calls_at_once=2), tokens.add()
    async with serving(config_for(ollama.url, tokens_file=tokens.path)) as server:
        await server.until("", "SERVING")
        running = [server.generation.Generate(REQUEST, metadata=limited) for _ in range(2)]
        for call in running:
            await call.read()
        refusal = await refused(server.generation.Generate(REQUEST, metadata=limited))
        running.append(server.generation.Generate(REQUEST, metadata=other))
        assert (await running[-1].read()).WhichOneof("event")
        running[0].cancel()
        await server.until_admitted(running=2, queued=0)
        again = server.generation.Generate(REQUEST, metadata=limited)
        assert (await again.read()).WhichOneof("event")
        for call in (*running, again):
            call.cancel()

    assert refusal.reason == "QUOTA_EXCEEDED"
    assert "calls_at_once" in str(refusal.message)
    assert refusal.trailers["grpc-retry-pushback-ms"] == "1000"


async def test_calls_a_minute_are_limited_for_each_caller(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    limited, other = tokens.add(calls_per_minute=3), tokens.add()
    async with serving(config_for(ollama.url, tokens_file=tokens.path)) as server:
        await server.until("", "SERVING")
        outcomes = await reasons(server, 4, limited)
        unlimited = await reasons(server, 4, other)
        refusal = await refused(server.generation.Generate(REQUEST, metadata=limited))

    assert outcomes == ["finished"] * 3 + ["QUOTA_EXCEEDED"]
    assert unlimited == ["finished"] * 4
    assert 15_000 < int(refusal.trailers["grpc-retry-pushback-ms"]) <= 20_000


async def test_the_servers_limits_apply_to_a_stranger_and_a_tokens_own_replace_them(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    own = tokens.add(calls_per_minute=5)
    config = config_for(
        ollama.url,
        tokens_file=tokens.path,
        anonymous=frozenset({Scope.GENERATE}),
        call_limits=CallLimits(calls_per_minute=1, output_tokens=7),
    )
    async with serving(config) as server:
        await server.until("", "SERVING")
        stranger = await reasons(server, 2, ())
        principal = await reasons(server, 5, own)

    assert stranger == ["finished", "QUOTA_EXCEEDED"]
    assert principal == ["finished"] * 5
    sent = [exchange.body["options"]["num_predict"] for exchange in ollama.sent_to("/api/generate")]
    assert sent[-6:] == [7] * 6


@pytest.mark.parametrize(("asked", "sent"), [(None, 7), (3, 3), (100, 7)])
async def test_output_is_limited_to_the_smaller_number(
    ollama: ScriptedOllama, asked: int | None, sent: int
) -> None:
    config = config_for(ollama.url, call_limits=CallLimits(output_tokens=7))
    request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
    if asked is not None:
        request.stop.max_output_tokens = asked
    async with serving(config) as server:
        await server.until("", "SERVING")
        assert [event async for event in server.generation.Generate(request)]

    assert ollama.sent_to("/api/generate")[-1].body["options"]["num_predict"] == sent


async def test_a_generation_ends_gracefully_when_the_time_of_its_caller_is_over(
    ollama: ScriptedOllama,
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    config = config_for(ollama.url, call_limits=CallLimits(call_seconds=1))
    async with serving(config) as server:
        await server.until("", "SERVING")
        events = [event async for event in server.generation.Generate(REQUEST, timeout=20)]

    assert events[-1].finished.reason == pb.FINISH_REASON_TIME_BUDGET
    assert any(event.delta.text for event in events)


async def test_another_call_is_ended_when_the_time_of_its_caller_is_over(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "GRACE_S", 0.0)
    ollama.scripts["/api/show"] = [60.0]
    config = config_for(ollama.url, call_limits=CallLimits(call_seconds=1))
    async with serving(config, write_timeout_s=0.5) as server:
        await server.until("", "SERVING")
        show = server.channel.unary_unary("/eudai.v1.ModelService/GetModel")
        async with asyncio.timeout(10):
            refusal = await refused(show(b"\x0a\x0bgemma3:270m"))

    assert refusal.reason == "QUOTA_EXCEEDED"
    assert "call_seconds" in str(refusal.message)
    assert refusal.trailers["grpc-retry-pushback-ms"] == "-1"


async def test_a_caller_cannot_hold_all_health_watches(
    ollama: ScriptedOllama, tokens: TokensFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limiter, "IDLE_CALLS_MAX", 3)
    one, other = tokens.add(), tokens.add()
    async with serving(config_for(ollama.url, tokens_file=tokens.path)) as server:
        health = health_pb2_grpc.HealthStub(server.channel)
        watches = [health.Watch(WATCH, metadata=one) for _ in range(3)]
        for watch in watches:
            await watch.read()
        refusal = await refused(health.Watch(WATCH, metadata=one))
        watches.append(health.Watch(WATCH, metadata=other))
        assert (await watches[-1].read()).status
        for watch in watches:
            watch.cancel()
        async with asyncio.timeout(10):
            while True:  # the places are free again
                again = health.Watch(WATCH, metadata=one)
                try:
                    assert (await again.read()).status
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
        again.cancel()

    assert refusal.reason == "QUOTA_EXCEEDED"


async def test_only_those_with_the_scope_see_exact_times(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    ollama.scripts["/api/generate"] = words("a", "b")
    exact, coarse = tokens.add(), tokens.add(scopes=ALL_SCOPES - {Scope.TIMINGS})
    async with serving(config_for(ollama.url, tokens_file=tokens.path)) as server:
        await server.until("", "SERVING")
        seen = {}
        for metadata in (exact, coarse):
            call = server.generation.Generate(REQUEST, metadata=metadata)
            timings = [event async for event in call][-1].finished.timings
            seen[metadata] = [value.ToNanoseconds() for _, value in timings.ListFields()]

    assert any(nanoseconds % COARSE_NS for nanoseconds in seen[exact])
    assert len(seen[coarse]) == len(seen[exact]) > 3
    assert not any(nanoseconds % COARSE_NS for nanoseconds in seen[coarse])
