"""R5 to R8: Ollama dies, freezes, restarts or sends any bytes, and every call ends in time."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import grpc
import psutil
import pytest
from calls import MODEL, begun, channel_to, generate, health, until_health
from eudai_server.core.errors import ServiceError
from eudai_server.core.events import Delta, Finished
from eudai_server.ollama.wire.generation_stream import StreamDecoder
from hypothesis import HealthCheck, given, settings, strategies as st
from observed_server import observing
from own_ollama import OwnOllama
from reliability_table import Row, percentile
from scripted_ollama import END, HEADERS_STREAM, RESET, Script, ScriptedOllama, chunk, done, line

STREAM = "Once upon a time, in a country far away, there was"
LONG: dict[str, Any] = {"stop": {"max_output_tokens": 1500}, "sampling": {"temperature": 1.0}}


@pytest.fixture
async def own(real_url: str) -> AsyncIterator[OwnOllama]:
    """A real Ollama that the test may kill."""
    ollama = OwnOllama(real_url)
    await ollama.start()
    yield ollama
    ollama.kill()


@pytest.mark.timeout(500)
@pytest.mark.row(
    "R5",
    "the real Ollama is killed mid-stream: UNAVAILABLE at once, never OK without the last line",
)
async def test_a_killed_ollama_is_reported_at_once(own: OwnOllama, figures: Row) -> None:
    rng, took_ms, whole = random.Random(5), [], 0
    async with observing(own.url) as server, channel_to(server.address) as channel:
        for _ in range(figures.some(100, 3)):
            await until_health(channel, serving=True)
            task = await begun(channel, STREAM, **LONG)
            await asyncio.sleep(rng.uniform(0, 0.3))
            killed_s = time.monotonic()
            own.kill()
            outcome = await task
            if outcome.finished:
                whole += 1
            else:
                assert (outcome.code, outcome.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "BACKEND_STREAM_INTERRUPTED",
                ), outcome
                assert outcome.pushback_ms == -1
                took_ms.append((outcome.ended_s - killed_s) * 1000)
            await own.start()
    figures.count("killed mid-stream", len(took_ms), ">=", figures.some(90, 1))
    figures.count("had their last line before the kill", whole)
    figures.time("kill to status, p99 ms", percentile(took_ms, 0.99), "<=", 200)


@pytest.mark.timeout(180)
@pytest.mark.row(
    "R6",
    "the real Ollama or its runner freezes (SIGSTOP): BACKEND_STALLED, and SERVING after SIGCONT",
)
@pytest.mark.parametrize("part", ["server", "runner"])
async def test_a_frozen_ollama_is_reported_in_time(own: OwnOllama, figures: Row, part: str) -> None:
    limit_s = 1.0
    await own.load(MODEL)
    async with (
        observing(
            own.url,
            EUDAI_EVENT_TIMEOUT=str(limit_s),
            EUDAI_FIRST_EVENT_TIMEOUT="8",
            EUDAI_MAX_RUNNING="3",
        ) as server,
        channel_to(server.address) as channel,
    ):
        await until_health(channel, serving=True)
        assert (await generate(channel, "hi", stop={"max_output_tokens": 2})).finished
        tasks = [await begun(channel, STREAM, **LONG)]
        frozen: list[psutil.Process] = [own.process] if part == "server" else own.runners()
        frozen_s = time.monotonic()
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        tasks += [
            asyncio.create_task(generate(channel, "hi"))
            for _ in range(2 if part == "runner" else 0)
        ]
        first, *others = await asyncio.gather(*tasks)
        assert first.reason == "BACKEND_STALLED", first
        assert all(
            outcome.reason in ("BACKEND_STALLED", "BACKEND_UNREACHABLE") for outcome in others
        ), others
        down_s = await until_health(channel, serving=False, timeout_s=5)
        for process in frozen:
            process.send_signal(signal.SIGCONT)
        up_s = await until_health(channel, serving=True)
        assert (await generate(channel, "hi", stop={"max_output_tokens": 2})).finished
    figures.time(
        f"{part}: frozen to status, s, limit {limit_s:g}",
        first.ended_s - frozen_s,
        "<=",
        limit_s + 0.25,
    )
    figures.time(f"{part}: after the last status NOT_SERVING in, s", down_s, "<=", 2)
    figures.time(f"{part}: SIGCONT to SERVING, s", up_s, "<=", 3)


@pytest.mark.timeout(300)
@pytest.mark.row(
    "R7", "Ollama's port closes and opens: calls are refused at once, readiness follows"
)
async def test_readiness_follows_a_port_that_closes_and_opens(
    ollama: ScriptedOllama, figures: Row
) -> None:
    refused_ms, downs, ups, alive = [], [], [], True
    async with observing(ollama.url) as server, channel_to(server.address) as channel:
        for _ in range(figures.some(50, 3)):
            await until_health(channel, serving=True)
            await ollama.stop()
            closed_s = time.monotonic()
            await until_health(channel, serving=False)
            downs.append(time.monotonic() - closed_s)
            for _ in range(5):
                outcome = await generate(channel)
                assert (outcome.code, outcome.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "BACKEND_UNREACHABLE",
                ), outcome
                refused_ms.append(outcome.took_s * 1000)
            alive = alive and await health(channel, "liveness")
            await ollama.start()
            ups.append(await until_health(channel, serving=True))
            assert (await generate(channel)).finished
            alive = alive and await health(channel, "liveness")
    figures.count("liveness SERVING all along", alive, "==", True)
    figures.time("refused in, p99 ms", percentile(refused_ms, 0.99), "<=", 50)
    figures.time("readiness down in, worst s", max(downs), "<=", 2)
    figures.time("readiness up in, worst s", max(ups), "<=", 2)


GOOD = line(response="Grüße, 世界 \u2028\u0085 end", done=False)
TEXT = "Grüße, 世界 \u2028\u0085 end"
HOSTILE: dict[str, tuple[Script, str]] = {
    "nothing": ([HEADERS_STREAM, END], "BACKEND_STREAM_INTERRUPTED"),
    "no last line": ([HEADERS_STREAM, chunk(GOOD), END], "BACKEND_STREAM_INTERRUPTED"),
    "reset": ([HEADERS_STREAM, chunk(GOOD), RESET], "BACKEND_STREAM_INTERRUPTED"),
    "cut in a chunk": ([HEADERS_STREAM, b"ff\r\n{"], "BACKEND_STREAM_INTERRUPTED"),
    "CRLF and blank lines": (
        [HEADERS_STREAM, chunk(b"\r\n\n" + GOOD[:-1] + b"\r\n\n"), chunk(done()), END],
        "",
    ),
    "byte by byte": ([HEADERS_STREAM, *(chunk(bytes([byte])) for byte in GOOD + done()), END], ""),
    "a line of 20 MiB": (
        [HEADERS_STREAM, *[chunk(b"x" * (1 << 20)) for _ in range(20)], END],
        "BACKEND_FAILURE",
    ),
    "invalid UTF-8": (
        [HEADERS_STREAM, chunk(b'{"response":"\xff","done":false}\n'), END],
        "BACKEND_FAILURE",
    ),
    "invalid JSON": ([HEADERS_STREAM, chunk(b'{"response":\n'), END], "BACKEND_FAILURE"),
    "NaN": ([HEADERS_STREAM, chunk(b'{"response":NaN,"done":false}\n'), END], "BACKEND_FAILURE"),
    "an error line": (
        [HEADERS_STREAM, chunk(GOOD), chunk(line(error="boom")), END],
        "BACKEND_FAILURE",
    ),
    "done twice": ([HEADERS_STREAM, chunk(GOOD), chunk(done() + done()), END], ""),
    "data after done": ([HEADERS_STREAM, chunk(GOOD), chunk(done() + GOOD), END], ""),
    "an array": ([HEADERS_STREAM, chunk(b"[1]\n"), END], "BACKEND_FAILURE"),
    "deep JSON": ([HEADERS_STREAM, chunk(b"[" * 100_000 + b"\n"), END], "BACKEND_FAILURE"),
}


@pytest.mark.timeout(120)
@pytest.mark.row(
    "R8", "hostile bytes, to the server: the right text byte for byte, or a typed status"
)
async def test_hostile_streams_end_with_the_right_status(
    ollama: ScriptedOllama, figures: Row
) -> None:
    async with observing(ollama.url) as server, channel_to(server.address) as channel:
        await until_health(channel, serving=True)
        for name, (script, reason) in HOSTILE.items():
            ollama.scripts["/api/generate"] = script
            outcome = await generate(channel, timeout_s=10)
            assert outcome.reason == reason, (name, outcome)
            assert outcome.finished == (not reason), (name, outcome)
            assert outcome.text in ("", TEXT), (name, outcome)
            assert outcome.finished <= (outcome.text == TEXT), (name, outcome)
    figures.count("kinds of stream", len(HOSTILE), ">=", 15)


_TEXTS = st.lists(st.text(min_size=1), max_size=6)
_NOISE = st.one_of(
    st.binary(max_size=40),
    st.just(b"\n"),
    st.just(b"\r\n"),
    _TEXTS.map(lambda texts: line(response="".join(texts), done=False)),
)


@pytest.mark.timeout(300)
@pytest.mark.row(
    "R8b",
    "hostile bytes, to the decoder, cut anywhere: the right text or a typed failure, always an end",
)
def test_hostile_bytes_end_with_the_right_failure(figures: Row) -> None:
    examples = figures.some(2000, 200)
    ends = {"whole": 0, "failed": 0}

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(
        texts=_TEXTS,
        noise=st.lists(_NOISE, max_size=3),
        at=st.integers(0, 10),
        cuts=st.lists(st.integers(0, 400), max_size=8),
    )
    def check(texts: list[str], noise: list[bytes], at: int, cuts: list[int]) -> None:
        lines = [line(response=text, done=False) for text in texts]
        data = b"".join([*lines[:at], *noise, *lines[at:], done()])
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        decoder = StreamDecoder(
            "m", generation_id="g", context_length=0, max_output_tokens=None, hide_reasoning=False
        )
        events: list[Any] = []
        for begin, end in pairwise(edges):
            if not decoder.finished and not decoder.failure:
                events += decoder.feed(data[begin:end])
        if not decoder.finished and not decoder.failure:
            events += decoder.close()
        text = "".join(event.text for event in events if isinstance(event, Delta))
        assert decoder.finished or isinstance(decoder.failure, ServiceError)
        if not noise:
            assert text == "".join(texts)
            assert isinstance(events[-1], Finished)
        ends["whole" if decoder.finished and not decoder.failure else "failed"] += 1

    check()
    figures.count("streams, cut anywhere", sum(ends.values()), ">=", examples)
    figures.count("of them whole", ends["whole"], ">=", examples // 10)
    figures.count("of them failed, typed", ends["failed"], ">=", 1)
