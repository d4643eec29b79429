"""Turns between callers, floods of one caller, and deadlines that cannot be met."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from eudai_server.core.fair_queue import FairQueue, Mean, QueueFullError, Ticket
from hypothesis import given, strategies as st
from refusal import Refusal
from relay import relaying
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, X, chunk, done
from serving import Server, collect, config_for, serving


@pytest.fixture
async def narrow(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server that runs one generation of a model, and lets four wait."""
    async with serving(config_for(ollama.url, max_running=1, max_queued=4)) as server:
        await server.until("", "SERVING")
        yield server


async def prompt_by(address: str, prompt: str) -> None:
    """Generate on a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
        stub: rpc.GenerationServiceAsyncStub = rpc.GenerationServiceStub(channel)
        async for _ in stub.Generate(pb.GenerateRequest(model="gemma3:270m", prompt=prompt)):
            pass


def prompts(ollama: ScriptedOllama) -> list[str]:
    """The prompts that reached Ollama, in order."""
    return [exchange.body["prompt"] for exchange in ollama.sent_to("/api/generate")]


async def abandon_two(server: Server, ollama: ScriptedOllama) -> None:
    """Cancel two generations, one after the other, while Ollama evaluates their prompts."""
    for count in (1, 2):
        call = server.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt="long"))
        reading = asyncio.ensure_future(call.read())
        while prompts(ollama).count("long") < count:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_callers_take_turns(narrow: Server, ollama: ScriptedOllama) -> None:
    release = ollama.hold()
    async with relaying(narrow.address, "127.0.0.2") as other:
        calls = []
        for count, (address, prompt) in enumerate(
            [
                (narrow.address, "a1"),
                (narrow.address, "a2"),
                (narrow.address, "a3"),
                (other.address, "b1"),
            ]
        ):
            calls.append(asyncio.create_task(prompt_by(address, prompt)))
            await narrow.until_admitted(running=1, queued=count)
        release.set()
        await asyncio.gather(*calls)

    assert prompts(ollama) == ["a1", "a2", "b1", "a3"]


async def test_a_flooding_caller_gives_way_to_one_with_fewer_places(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    async with relaying(narrow.address, "127.0.0.2") as other:
        flood = []
        for count in range(5):
            flood.append(asyncio.create_task(prompt_by(narrow.address, f"a{count}")))
            await narrow.until_admitted(running=1, queued=count)
        late = asyncio.create_task(prompt_by(other.address, "b"))
        evicted = await asyncio.gather(flood[-1], return_exceptions=True)
        release.set()
        await asyncio.gather(*flood[:-1], late)

    assert prompts(ollama) == ["a0", "a1", "b", "a2", "a3"]
    assert isinstance(evicted[0], grpc.aio.AioRpcError)
    refused = Refusal(evicted[0])
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert refused.details["QuotaFailure"].violations[0].subject == "caller"
    assert int(refused.trailers["grpc-retry-pushback-ms"]) > 0


async def test_a_call_that_would_wait_past_its_deadline_is_refused_at_once(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, X, 1.0, chunk(done()), END]
    await collect(narrow, prompt="teaches how long one takes")
    release = ollama.hold()
    running = asyncio.create_task(collect(narrow, prompt="1"))
    waiting = asyncio.create_task(collect(narrow, prompt="2"))
    await narrow.until_admitted(running=1, queued=1)
    begin_s = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await narrow.generation.Generate(
            pb.GenerateRequest(model="gemma3:270m", prompt="3"), timeout=1.2
        ).read()
    refused, took_s = Refusal(failure.value), time.monotonic() - begin_s
    release.set()
    await asyncio.gather(running, waiting)

    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "DEADLINE_TOO_SHORT",
    )
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"
    assert took_s < 1.2
    assert "3" not in prompts(ollama)


async def test_no_deadline_is_too_short_if_the_queue_is_empty(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, 0.5, X, chunk(done()), END]
    await collect(narrow, prompt="teaches how long the first output takes")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await narrow.generation.Generate(
            pb.GenerateRequest(model="gemma3:270m", prompt="2"), timeout=0.2
        ).read()

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert prompts(ollama)[-1] == "2"


async def test_abandoned_prompt_evaluations_cannot_accumulate(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    evaluates, idle = 30.0, asyncio.Event()
    ollama.scripts["/api/generate"] = lambda exchange: (
        [idle, HEADERS_STREAM, X, chunk(done()), END]
        if exchange.body["prompt"] == "."
        else [evaluates]
    )
    await abandon_two(narrow, ollama)
    while "." not in prompts(ollama):
        await asyncio.sleep(0.01)
    after = asyncio.create_task(prompt_by(narrow.address, "after"))
    while not narrow.app.parts.admission.queued:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # nothing is sent
    before = prompts(ollama)
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, X, chunk(done()), END]
    idle.set()
    await after

    assert before == ["long", "long", "."]
    assert prompts(ollama)[-1] == "after"


def enter(places: ExitStack, queue: FairQueue, caller: str) -> Ticket | None:
    """Return a ticket that is held until `places` is closed, or None if the queue is full."""
    try:
        return places.enter_context(queue.place(caller))
    except QueueFullError:
        return None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_the_reported_place_is_the_actual_place(steps: list[tuple[str, bool]]) -> None:
    queue = FairQueue(max_running=1, max_queued=20)
    with ExitStack() as running, ExitStack() as places:
        running.enter_context(queue.slot(places.enter_context(queue.place("first"))))
        tickets: list[Ticket] = []
        for caller, stays in steps:
            with ExitStack() as leaving:
                ticket = enter(places if stays else leaving, queue, caller)
                if ticket and stays:
                    tickets.append(ticket)
        told = {ticket: queue.ahead(ticket) for ticket in tickets if not ticket.evicted}
        served = []
        while queue.queued:
            running.close()
            served.append(next(ticket for ticket in told if queue.is_next(ticket)))
            running.enter_context(queue.slot(served[-1]))

    assert [told[ticket] for ticket in served] == list(range(1, len(served) + 1))
    assert len(served) == len(told)


@given(st.lists(st.sampled_from("abcd"), max_size=40))
def test_a_full_queue_locks_no_caller_out(callers: list[str]) -> None:
    queue = FairQueue(max_running=1, max_queued=8)
    with ExitStack() as places:
        with queue.slot(places.enter_context(queue.place("first"))):
            tickets = [enter(places, queue, caller) for caller in callers]
            held = Counter(ticket.caller for ticket in tickets if ticket and not ticket.evicted)

        assert held.total() == min(len(callers), 8)
        if len(callers) > 8:
            shares = [held[caller] for caller in set(callers)]
            wanted = sorted(callers.count(caller) for caller in set(callers))
            assert (
                max(shares) - min(shares) <= 1
                or min(shares) == wanted[0]
                or min(wanted) <= min(shares)
            )


def test_a_mean_follows_its_samples() -> None:
    mean = Mean()
    assert mean.value is None
    for _ in range(30):
        mean.add(2.0)

    assert mean.value == pytest.approx(2.0)


async def test_a_defect_while_settling_does_not_block_the_queue(
    narrow: Server,
    ollama: ScriptedOllama,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def settle(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("eudai_server.ollama.backend.OllamaBackend.settle", settle)
    ollama.scripts["/api/generate"] = [30.0]
    await abandon_two(narrow, ollama)
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, X, chunk(done()), END]
    await prompt_by(narrow.address, "after")

    assert prompts(ollama)[-1] == "after"
    assert "a background task failed" in caplog.text
