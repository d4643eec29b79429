"""R1 to R4, R15: clients cancel, hurry, freeze or do not read, and nothing of them is left."""

import asyncio
import gc
import random
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
import pytest
from calls import MODEL, begun, channel_to, generate, leave, until_health
from faulty_ollama import faulty_ollama
from observed_server import Observed, observing
from processes import spawn
from reliability_table import Row, percentile
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    Exchange,
    Script,
    ScriptedOllama,
    X,
    chunk,
    done,
    line,
    words,
)

ENDLESS = [HEADERS_STREAM, *[step for _ in range(10_000) for step in (X, 0.005)]]


def endless(exchange: Exchange) -> Script:
    """An endless answer, but one token if only one is asked for, as the server's canary does."""
    if exchange.body["options"].get("num_predict") == 1:
        return words("x")
    return ENDLESS


MIB = 1 << 20
# Long enough for a busy machine to send the call to Ollama.
DEADLINE_S = 0.5


async def _cancel_many(
    server: Observed, count: int, concurrently: int, rng: random.Random, after_s: float
) -> dict[str, float]:
    """Cancel many calls, and return when each was cancelled, by prompt."""
    left: dict[str, float] = {}
    numbers = iter(range(count))

    async def work() -> None:
        async with channel_to(server.address) as channel:
            for number in numbers:
                left[str(number)] = await leave(channel, str(number), rng.uniform(0, after_s))

    await asyncio.gather(*(work() for _ in range(concurrently)))
    return left


@pytest.mark.timeout(300)
@pytest.mark.row(
    "R1", "10,000 clients cancel at random moments: streams close at once, nothing is left"
)
async def test_cancellations_leave_nothing_behind(ollama: ScriptedOllama, figures: Row) -> None:
    rng = random.Random(1)
    ollama.scripts["/api/generate"] = endless
    async with observing(ollama.url, EUDAI_MAX_RUNNING="64", EUDAI_MAX_QUEUED="64") as server:
        async with channel_to(server.address) as channel:
            await until_health(channel, serving=True)
        await _cancel_many(server, figures.some(1000, 100), 50, rng, 0.06)
        before = await _settled(server)
        await _cancel_many(server, figures.some(9000, 200), 50, rng, 0.06)
        after = await _settled(server)
        ollama.exchanges.clear()
        left = await _cancel_many(server, figures.some(500, 50), 5, rng, 0.06)
        await _settled(server)
    late_ms = _late_ms(ollama, left)
    for what in ("running", "queued", "tasks", "sockets", "fds"):
        figures.count(f"{what}: {before[what]} before, after", after[what], "<=", before[what])
    figures.time(
        f"memory: {before['rss'] / MIB:.1f} MiB before, after",
        after["rss"] / MIB,
        "<=",
        before["rss"] / MIB + 5,
    )
    figures.time("cancel to closed stream, p99 ms", percentile(late_ms, 0.99), "<=", 50)
    figures.count("of the last ones, sent to Ollama", len(late_ms), ">=", figures.some(50, 1))


def _late_ms(ollama: ScriptedOllama, left: dict[str, float]) -> list[float]:
    """How many milliseconds after each cancellation its stream was closed."""
    sent = [
        exchange for exchange in ollama.sent_to("/api/generate") if exchange.body["prompt"] in left
    ]
    return [(exchange.closed_s - left[exchange.body["prompt"]]) * 1000 for exchange in sent]


async def _settled(server: Observed) -> dict[str, Any]:
    """The server's state a second after the last call, between two probes."""
    gc.collect()  # a call that is garbage in this process keeps its connection
    await server.until_idle()
    await asyncio.sleep(1)
    least: dict[str, Any] = await server.inside()
    for _ in range(20):
        await asyncio.sleep(0.05)
        now = await server.inside()
        least |= {what: min(least[what], now[what]) for what in ("tasks", "sockets", "fds")}
    return least


@pytest.mark.timeout(180)
@pytest.mark.row(
    "R2", "a minute of cancellations under contention: afterwards 100 of 100 calls succeed"
)
async def test_a_minute_of_cancellations_breaks_nothing(figures: Row) -> None:
    rng, cancelled = random.Random(2), 0
    async with (
        faulty_ollama(tokens=5, token_ms=5) as (url, _),
        observing(url, EUDAI_MAX_RUNNING="4", EUDAI_MAX_QUEUED="200") as server,
        channel_to(server.address) as channel,
    ):
        await until_health(channel, serving=True)
        end_s = time.monotonic() + figures.some(60, 2)

        async def churn() -> None:
            nonlocal cancelled
            while time.monotonic() < end_s:
                await leave(channel, "x", rng.uniform(0, 0.2))
                cancelled += 1

        await asyncio.gather(*(churn() for _ in range(50)))
        await server.until_idle()
        outcomes = [await generate(channel) for _ in range(100)]
    figures.count("calls left", cancelled, ">=", 100)
    figures.count(
        "succeeded afterwards, of 100", sum(outcome.finished for outcome in outcomes), "==", 100
    )


@pytest.mark.timeout(180)
@pytest.mark.row(
    "R3",
    "a deadline passes in any phase: DEADLINE_EXCEEDED, and the stream to Ollama is closed",
)
async def test_deadlines_end_calls_in_every_phase(ollama: ScriptedOllama, figures: Row) -> None:
    count = figures.some(1000, 40)
    for phase, script in (("before the first token", [60.0]), ("mid-stream", ENDLESS)):
        ollama.exchanges.clear()
        ollama.scripts["/api/generate"] = _unless_canary(script)
        async with (
            observing(ollama.url, EUDAI_MAX_RUNNING="32", EUDAI_MAX_QUEUED="64") as server,
            channel_to(server.address) as channel,
        ):
            await until_health(channel, serving=True)
            ended = await _hurry(channel, count, 20)
            await server.until_idle()
        late_ms = _late_ms(ollama, ended)
        figures.count(f"{phase}: calls sent to Ollama", len(late_ms), ">=", count // 2)
        figures.time(
            f"{phase}: deadline to closed stream, p99 ms", percentile(late_ms, 0.99), "<=", 50
        )
    ollama.exchanges.clear()
    ollama.scripts["/api/generate"] = ENDLESS
    async with (
        observing(ollama.url, EUDAI_MAX_RUNNING="1", EUDAI_MAX_QUEUED="64") as server,
        channel_to(server.address) as channel,
    ):
        await until_health(channel, serving=True)
        holding = await begun(channel, "holds")
        await _hurry(channel, count, 20)
        still_holds = not holding.done()
        holding.cancel()
    assert still_holds
    figures.count("queued: sent to Ollama", len(ollama.sent_to("/api/generate")) - 1, "==", 0)


def _unless_canary(script: Script) -> Any:
    return lambda exchange: words("x") if exchange.body["prompt"] == "." else script


async def _hurry(channel: Any, count: int, concurrently: int) -> dict[str, float]:
    """Make calls whose deadline passes, and return when it passed, by prompt."""
    ended: dict[str, float] = {}
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            outcome = await generate(channel, str(number), timeout_s=DEADLINE_S)
            assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED, outcome
            ended[str(number)] = outcome.ended_s

    await asyncio.gather(*(one() for _ in range(concurrently)))
    return ended


BEGIN_TIMEOUT_S = 30.0

_FROZEN_CLIENT = """
import asyncio, sys, grpc
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
async def main():
    # The server allows 100 streams for each connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(sys.argv[1], options) for _ in range(2)]
    stubs = [rpc.GenerationServiceStub(channel) for channel in channels]
    request = pb.GenerateRequest(model=sys.argv[2], prompt="x")
    calls = [stubs[number % 2].Generate(request) for number in range(int(sys.argv[3]))]
    await asyncio.gather(*(call.read() for call in calls))
    print("reading", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


async def _frozen_client(address: str, calls: int) -> "subprocess.Popen[bytes]":
    """Start a client process that begins its calls and then freezes."""
    process = spawn(
        sys.executable, "-c", _FROZEN_CLIENT, address, MODEL, str(calls), stdout=subprocess.PIPE
    )
    assert process.stdout
    try:
        async with asyncio.timeout(BEGIN_TIMEOUT_S):
            assert await asyncio.to_thread(process.stdout.readline) == b"reading\n"
    except BaseException:
        process.kill()
        raise
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.mark.row(
    "R4", "a client freezes (SIGSTOP): its call ends within keepalive and timeout (2 s and 1 s)"
)
async def test_the_calls_of_a_frozen_client_are_ended(ollama: ScriptedOllama, figures: Row) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, X, 600.0]
    async with (
        observing(ollama.url, keepalive_s=2, keepalive_timeout_s=1) as server,
        channel_to(server.address) as channel,
    ):
        await until_health(channel, serving=True)
        process = await _frozen_client(server.address, 1)
        try:
            begin_s = time.monotonic()
            await server.until_idle()
            took_s = time.monotonic() - begin_s
        finally:
            process.kill()
            process.communicate()
    figures.time("frozen to freed, s", took_s, "<=", 4)


@pytest.mark.timeout(120)
@pytest.mark.row("R15", "200 readers stall: each costs little memory, and others are not slowed")
async def test_stalled_readers_cost_little(ollama: ScriptedOllama, figures: Row) -> None:
    readers = figures.some(200, 20)
    steps = [
        step for _ in range(1000) for step in (chunk(line(response="x" * 4000, done=False)), 0.1)
    ]

    def script(exchange: Exchange) -> Script:
        return (
            words("a", "b")
            if exchange.body["prompt"] == "quick"
            else [HEADERS_STREAM, *steps, chunk(done()), END]
        )

    ollama.scripts["/api/generate"] = script
    async with (
        observing(ollama.url, EUDAI_MAX_RUNNING="300", EUDAI_MAX_QUEUED="300") as server,
        channel_to(server.address) as channel,
    ):
        await until_health(channel, serving=True)
        process = await _frozen_client(server.address, readers)
        process.send_signal(
            signal.SIGCONT
        )  # it still does not read, but its system acknowledges data
        try:
            flowing = await _quick_p99(channel, figures)
            process.send_signal(signal.SIGSTOP)
            before = (await server.inside())["rss"]
            stalled = await _quick_p99(channel, figures)
            grown_kib = ((await server.inside())["rss"] - before) / 1024 / readers
            still = (await server.inside())["running"]
        finally:
            process.kill()
            process.communicate()
        await server.until_idle()
    figures.count("readers that held their stream", still, "==", readers)
    figures.time("memory a reader, KiB", grown_kib, "<=", 256)
    figures.time(
        "others' p99 beside stalled readers, as share of beside running ones",
        stalled / flowing,
        "<=",
        1.2,
    )


async def _quick_p99(channel: Any, figures: Row) -> float:
    took = []
    end_s = time.monotonic() + figures.some(8, 1)
    while time.monotonic() < end_s:
        outcome = await generate(channel, "quick")
        assert outcome.finished, outcome
        took.append(outcome.took_s)
        await asyncio.sleep(0.02)
    return percentile(took, 0.99)
