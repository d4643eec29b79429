"""The queue of a model: how many requests run, which waits next, and when the queue is full."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from refusal import refusal
from scripted_ollama import ScriptedOllama
from serving import Server, collect, config_for, kinds, serving, text_of


@pytest.fixture
async def narrow(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server that runs one generation of a model, and lets two wait."""
    async with serving(config_for(ollama.url, max_running=1, max_queued=2)) as server:
        await server.until("", "SERVING")
        yield server


async def test_one_request_runs_and_the_others_wait_in_order(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    calls = []
    for queued, prompt in enumerate(("1", "2", "3")):
        calls.append(
            asyncio.create_task(
                collect(narrow, prompt=prompt, events=pb.EventOptions(progress=True))
            )
        )
        await narrow.until_admitted(running=1, queued=queued)
    await asyncio.sleep(0.1)  # the last one waits at least this long; nothing more is sent
    at_once = len(ollama.sent_to("/api/generate"))
    release.set()
    answers = await asyncio.gather(*calls)
    places = [
        [
            event.progress.requests_ahead
            for event in answer
            if event.progress.phase == pb.GENERATION_PHASE_QUEUED
        ]
        for answer in answers
    ]

    assert at_once == 1
    assert [exchange.body["prompt"] for exchange in ollama.sent_to("/api/generate")] == [
        "1",
        "2",
        "3",
    ]
    assert places == [[], [1], [2, 1]]
    assert [text_of(answer) for answer in answers] == ["x"] * 3
    assert answers[2][-1].finished.timings.queue.ToMilliseconds() >= 100


async def test_two_slots_run_two_requests(ollama: ScriptedOllama) -> None:
    release = ollama.hold()
    async with serving(config_for(ollama.url, max_running=2, max_queued=8)) as server:
        await server.until("", "SERVING")
        calls = [asyncio.create_task(collect(server, prompt=str(index))) for index in range(8)]
        await server.until_admitted(running=2, queued=6)
        await ollama.until_sent("/api/generate", 2)
        await asyncio.sleep(0.1)  # nothing more is sent
        at_once = len(ollama.sent_to("/api/generate"))
        release.set()
        answers = await asyncio.gather(*calls)

    assert at_once == 2
    assert [text_of(answer) for answer in answers] == ["x"] * 8


async def test_a_full_queue_refuses_with_a_retry_delay(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    calls = [asyncio.create_task(collect(narrow, prompt="x")) for _ in range(3)]
    await narrow.until_admitted(running=1, queued=2)
    refused = await refusal(narrow, prompt="x")
    other = asyncio.create_task(collect(narrow, model="deepseek-r1:1.5b", prompt="x"))
    await ollama.until_sent("/api/generate", 2)  # another model has its own queue
    release.set()
    await asyncio.gather(*calls, other)

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert 800 <= int(refused.trailers["grpc-retry-pushback-ms"]) <= 1200
    assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() >= 800
    assert refused.details["QuotaFailure"].violations[0].subject == "queue"
    assert text_of(await collect(narrow, prompt="x")) == "x"


async def test_a_caller_who_leaves_the_queue_frees_its_place(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    running = asyncio.create_task(collect(narrow, prompt="1"))
    await ollama.until_sent("/api/generate", 1)
    for _ in range(5):
        leaving = [
            narrow.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt="leaves"))
            for _ in range(2)
        ]
        reading = [asyncio.ensure_future(call.read()) for call in leaving]
        await narrow.until_admitted(running=1, queued=2)
        for call in leaving:
            call.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await narrow.until_admitted(running=1, queued=0)
    staying = [asyncio.create_task(collect(narrow, prompt=prompt)) for prompt in ("2", "3")]
    await narrow.until_admitted(running=1, queued=2)
    release.set()
    await asyncio.gather(running, *staying)

    assert sorted(exchange.body["prompt"] for exchange in ollama.sent_to("/api/generate")) == [
        "1",
        "2",
        "3",
    ]


async def test_a_request_whose_deadline_passes_in_the_queue_is_not_sent(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    running = asyncio.create_task(collect(narrow, prompt="1"))
    await ollama.until_sent("/api/generate", 1)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await narrow.generation.Generate(
            pb.GenerateRequest(model="gemma3:270m", prompt="2"), timeout=0.2
        ).read()
    release.set()
    await running

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(ollama.sent_to("/api/generate")) == 1


async def test_a_time_budget_that_ends_in_the_queue_is_not_an_error(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = ollama.hold()
    running = asyncio.create_task(collect(narrow, prompt="1"))
    await ollama.until_sent("/api/generate", 1)
    events = await collect(narrow, prompt="2", time_budget=Duration(nanos=200_000_000))
    release.set()
    await running

    assert kinds(events) == ["started", "finished"]
    assert events[-1].finished.reason == pb.FINISH_REASON_TIME_BUDGET


async def test_cancellations_at_any_moment_leave_the_queue_empty(narrow: Server) -> None:
    for milliseconds in range(80):
        calls = [
            narrow.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt="x"))
            for _ in range(3)
        ]
        await asyncio.sleep(milliseconds / 8000)  # the moment
        for call in calls:
            call.cancel()
    await narrow.until_admitted(running=0, queued=0)

    assert text_of(await collect(narrow, prompt="still there?")) == "Hello world"
