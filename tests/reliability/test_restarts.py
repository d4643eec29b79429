"""R12 to R14, R18, R20: drains, rolling restarts, kills, bad configurations and long silences."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from calls import MODEL, Outcome, begun, channel_to, generate, queued, until_health
from eudai import CHANNEL_OPTIONS
from eudai_server.config import UNSUPPORTED
from faulty_ollama import faulty_ollama
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import Runners, ended_server, last_work_s
from reliability_table import Row, percentile
from replica import Replica, envoy, replica
from scripted_ollama import END, HEADERS_STREAM, Exchange, Script, ScriptedOllama, X, chunk, done

GRACE_S = 0.6
QUICK_S = 0.3
EXIT_CONFIG = 78


def _by_prompt(exchange: Exchange) -> Script:
    return [
        HEADERS_STREAM,
        X,
        QUICK_S if exchange.body["prompt"] == "quick" else 60.0,
        chunk(done()),
        END,
    ]


async def _watch(channel: Any, watches: asyncio.Event) -> float:
    """Return when health first reports NOT_SERVING. `watches` is set at the first report."""
    async for answer in health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="")
    ):
        watches.set()
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return time.monotonic()
    raise AssertionError("the watch ended without a word")


async def _drain_once(url: str, downs_ms: list[float], exits_s: list[float]) -> None:
    async with (
        replica(
            url, EUDAI_DRAIN_GRACE=str(GRACE_S), EUDAI_MAX_RUNNING="4", EUDAI_MAX_QUEUED="4"
        ) as server,
        channel_to(server.address) as channel,
    ):
        watches = asyncio.Event()
        watching = asyncio.create_task(_watch(channel, watches))
        await watches.wait()
        calls = [await begun(channel, prompt) for prompt in ("slow", "slow", "quick", "quick")]
        calls += [await queued(channel, "waits") for _ in range(2)]
        told_s = time.monotonic()
        server.send(signal.SIGTERM)
        outcomes = await asyncio.gather(*calls)
        code = await server.ended()
        exits_s.append(time.monotonic() - told_s)
        downs_ms.append((await watching - told_s) * 1000)
    assert code == 0
    assert [outcome.finished for outcome in outcomes] == [False, False, True, True, False, False], (
        outcomes
    )
    assert all(
        (outcome.code, outcome.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        for outcome in outcomes
        if not outcome.finished
    )


@pytest.mark.timeout(400)
@pytest.mark.row(
    "R12",
    "SIGTERM at full load: NOT_SERVING at once, calls finish or get a status, exit code 0",
)
async def test_drains_lose_no_call(ollama: ScriptedOllama, figures: Row) -> None:
    ollama.scripts["/api/generate"] = _by_prompt
    downs_ms: list[float] = []
    exits_s: list[float] = []
    drains = iter(range(figures.some(100, 4)))

    async def work() -> None:
        for _ in drains:
            await _drain_once(ollama.url, downs_ms, exits_s)

    await asyncio.gather(work(), work())
    figures.count(
        "drains, two at a time, each with exit code 0 and every status right",
        len(exits_s),
        ">=",
        figures.some(100, 4),
    )
    figures.time("SIGTERM to NOT_SERVING, p99 ms", percentile(downs_ms, 0.99), "<=", 50)
    figures.time(f"SIGTERM to exit, worst s, grace {GRACE_S:g}", max(exits_s), "<=", GRACE_S + 2)


@pytest.mark.row("R12b", "SIGTERM with only an open health watch: the server exits at once")
async def test_an_open_health_watch_does_not_delay_a_drain(
    ollama: ScriptedOllama, figures: Row
) -> None:
    async with (
        replica(ollama.url, EUDAI_DRAIN_GRACE="10") as server,
        channel_to(server.address) as channel,
    ):
        watches = asyncio.Event()
        watching = asyncio.create_task(_watch(channel, watches))
        await watches.wait()
        begin_s = time.monotonic()
        server.send(signal.SIGTERM)
        await watching
        code = await server.ended()
        took_s = time.monotonic() - begin_s
    figures.count("exit code", code, "==", 0)
    figures.time("SIGTERM to exit, s, grace 10", took_s, "<=", 1)


@pytest.mark.timeout(300)
@pytest.mark.row(
    "R13", "two replicas behind a real Envoy restart in turn at 20 calls a second: no call fails"
)
async def test_rolling_restarts_fail_no_call(figures: Row, tmp_path: Path) -> None:
    settings = {"EUDAI_LAME_DUCK": "1", "EUDAI_MAX_RUNNING": "32", "EUDAI_DRAIN_GRACE": "5"}
    async with (
        faulty_ollama(tokens=20, token_ms=10) as (url, _),
        replica(url, **settings) as first,
        replica(url, **settings) as second,
        envoy(tmp_path, first, second) as address,
        channel_to(address) as channel,
    ):
        await until_health(channel, serving=True)
        calls: list[asyncio.Task[Outcome]] = []
        restarting = asyncio.create_task(_restart_in_turn((first, second), figures.some(20, 2)))
        while not restarting.done():
            calls.append(asyncio.create_task(generate(channel)))
            await asyncio.sleep(0.05)
        codes = await restarting
        outcomes = await asyncio.gather(*calls)
    failed = [outcome for outcome in outcomes if not outcome.finished]
    figures.count("restarts, exit code 0", codes.count(0), "==", figures.some(20, 2))
    figures.count("calls", len(outcomes), ">=", 40)
    figures.count("failed", len(failed), "==", 0)
    assert not failed, failed[:3]


async def _restart_in_turn(servers: tuple[Replica, ...], count: int) -> list[int]:
    codes = []
    for number in range(count):
        server = servers[number % len(servers)]
        server.send(signal.SIGTERM)
        codes.append(await server.ended())
        await server.start()
        await asyncio.sleep(1)  # Envoy checks five times a second, and does not report the result
    return codes


@pytest.mark.timeout(300)
@pytest.mark.row(
    "R14",
    "eudai is killed mid-stream: clients fail at once, Ollama becomes idle, a new server starts",
)
async def test_a_killed_server_leaves_no_work(real_url: str, figures: Row) -> None:
    told_ms, idle_s, ups_s = [], [], []
    runners = Runners(real_url, MODEL)
    for _ in range(figures.some(50, 3)):
        async with replica(real_url) as server, channel_to(server.address) as channel:
            task = await begun(channel, "Once upon a time", stop={"max_output_tokens": 2000})
            killed_s = time.monotonic()
            server.send(signal.SIGKILL)
            outcome = await task
            assert outcome.code is grpc.StatusCode.UNAVAILABLE, outcome
            told_ms.append((outcome.ended_s - killed_s) * 1000)
            (runner,) = runners.now()
            idle_s.append(await last_work_s(runner, quiet_s=0.15, timeout_s=30) - killed_s)
            await server.ended()
            ups_s.append(await server.start())
            async with channel_to(server.address) as again:
                assert (await generate(again, "hi", stop={"max_output_tokens": 2})).finished
    figures.count("kills", len(told_ms), ">=", 3)
    figures.time("kill to UNAVAILABLE, p99 ms", percentile(told_ms, 0.99), "<=", 100)
    figures.time("kill to an idle Ollama, worst s", max(idle_s), "<=", 2)
    figures.time("start to SERVING, worst s", max(ups_s), "<=", 2)


BAD = [
    ("OLLAMA_BASE_URL", "ftp://x"),
    ("OLLAMA_BASE_URL", "http://user:password@host"),
    ("EUDAI_LISTEN", "0.0.0.0:50051"),
    ("EUDAI_LISTEN", "ipv4:127.0.0.1:1,0.0.0.0:50051"),
    ("EUDAI_HEALTH_LISTEN", "50052"),
    ("EUDAI_ANONYMOUS", "everything"),
    ("EUDAI_TOKENS_FILE", "/nowhere/tokens.json"),
    ("EUDAI_LISTEN", "nonsense"),
    ("EUDAI_LISTEN", "127.0.0.1:99999"),
    ("EUDAI_REFLECTION", "yes"),
    ("EUDAI_ADMIN", "1"),
    ("EUDAI_LOAD_OPTIONS", "on"),
    ("EUDAI_MAX_RUNNING", "0"),
    ("EUDAI_MAX_QUEUED", "-1"),
    ("EUDAI_EXPECT_GPU", "maybe"),
    ("EUDAI_REGISTRIES", "a b"),
    ("EUDAI_FIRST_EVENT_TIMEOUT", "0"),
    ("EUDAI_EVENT_TIMEOUT", "nan"),
    ("EUDAI_DRAIN_GRACE", "soon"),
    ("EUDAI_LAME_DUCK", "1e9"),
    *((variable, "x") for variable in UNSUPPORTED),
]


@pytest.mark.timeout(120)
@pytest.mark.row(
    "R18",
    "an invalid configuration: exit code 78 within a second, with the variable and the reason",
)
def test_bad_configurations_end_at_once(figures: Row) -> None:
    took_s = []
    for variable, text in BAD:
        begin_s = time.monotonic()
        ended = ended_server(**{variable: text})
        took_s.append(time.monotonic() - begin_s)
        assert ended.returncode == EXIT_CONFIG, (variable, text, ended)
        assert ended.stderr.startswith(f"eudai-server: {variable} "), (variable, text, ended.stderr)
        assert len(ended.stderr.splitlines()) == 1, (variable, text, ended.stderr)
    figures.count("bad values", len(BAD), ">=", 20)
    figures.time("start to exit, worst s", max(took_s), "<=", 1)


@pytest.mark.timeout(180)
@pytest.mark.row(
    "R20",
    "a first byte that takes two minutes: neither Envoy nor keepalive ends the call",
)
async def test_a_long_silence_does_not_end_a_call(
    ollama: ScriptedOllama, figures: Row, tmp_path: Path
) -> None:
    silence_s = figures.some(120, 3)
    ollama.scripts["/api/generate"] = [float(silence_s), HEADERS_STREAM, X, chunk(done()), END]
    async with (
        replica(ollama.url, EUDAI_MAX_RUNNING="4") as first,
        replica(ollama.url, EUDAI_MAX_RUNNING="4") as second,
        envoy(tmp_path, first, second) as address,
        channel_to(address, CHANNEL_OPTIONS) as through,
        channel_to(first.address, CHANNEL_OPTIONS) as direct,
    ):
        await until_health(through, serving=True)
        outcomes = await asyncio.gather(
            *(generate(channel, timeout_s=None) for channel in (through, direct))
        )
    assert all(outcome.finished and outcome.text == "x" for outcome in outcomes), outcomes
    figures.count(
        "shortest wait that was answered, s",
        min(outcome.first_s for outcome in outcomes),
        ">=",
        silence_s,
    )
