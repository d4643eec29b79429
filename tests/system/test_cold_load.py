"""Ten callers want a model that the real Ollama must load, and nine leave: it is loaded once."""

import asyncio
from typing import Any

import psutil
import pytest
from eudai.v1 import (
    generation_service_pb2 as pb,
    model_service_pb2,
    model_service_pb2_grpc,
    options_pb2,
)
from processes import Runners
from serving import config_for, serving, text_of

REQUEST = pb.GenerateRequest(
    model="gemma3:270m",
    prompt="The capital of France is",
    stop=options_pb2.StopOptions(max_output_tokens=4),
)


async def test_the_load_continues_if_nine_of_ten_callers_leave(real_url: str) -> None:
    async with serving(config_for(real_url, admin=True)) as server:
        await server.until("", "SERVING")
        await model_service_pb2_grpc.ModelServiceStub(server.channel).UnloadModel(
            model_service_pb2.UnloadModelRequest(model="gemma3:270m")
        )
        runners = Runners(real_url, "gemma3:270m")
        assert runners.now() == []
        seen: set[psutil.Process] = set()
        watching = asyncio.create_task(_watch(runners, seen))
        calls = [server.generation.Generate(REQUEST, timeout=60) for _ in range(10)]
        readings = [asyncio.ensure_future(call.read()) for call in calls]
        while not seen:
            await asyncio.sleep(0.01)
        for call in calls[:9]:
            call.cancel()
        left = await asyncio.gather(*readings[:9], return_exceptions=True)
        events = [await readings[9]]
        while not events[-1].HasField("finished"):
            events.append(await calls[9].read())
        watching.cancel()

    assert {type(each) for each in left} == {asyncio.CancelledError}
    assert events[0].HasField("started")
    assert text_of(events)
    assert len(seen) == 1


async def _watch(runners: Runners, seen: set[psutil.Process]) -> None:
    """Record all processes that run the model, until cancelled."""
    while True:
        seen |= set(await asyncio.to_thread(runners.now))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("moment_ms", [0, 20, 60, 150, 400])
async def test_a_model_evicted_at_any_moment_still_answers(real_url: str, moment_ms: int) -> None:
    async with serving(config_for(real_url, admin=True)) as server:
        await server.until("", "SERVING")
        stub = model_service_pb2_grpc.ModelServiceStub(server.channel)
        answering = asyncio.create_task(_answer(server.generation))
        await asyncio.sleep(moment_ms / 1000)
        await stub.UnloadModel(model_service_pb2.UnloadModelRequest(model="gemma3:270m"))

        assert text_of(await answering)
        assert text_of(await _answer(server.generation))


async def _answer(stub: Any) -> list[pb.GenerateResponse]:
    return [event async for event in stub.Generate(REQUEST, timeout=60)]
