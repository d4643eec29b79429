"""Calls of a server at an address, and how each of them ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from refusal import Refusal

MODEL = "gemma3:270m"
PLAIN = (("grpc.enable_retries", 0),)


@dataclass
class Outcome:
    """How one call ended."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    pushback_ms: int | None = None
    retry_info: bool = False
    finished: bool = False
    text: str = ""
    took_s: float = 0.0
    first_s: float = 0.0
    ended_s: float = 0.0
    details: str = ""


@asynccontextmanager
async def channel_to(address: str, options: Any = PLAIN) -> AsyncIterator[Any]:
    """A channel that does not retry, because retries would hide what is measured."""
    # By default, channels to one address share a connection.
    async with grpc.aio.insecure_channel(
        address, options=[*options, ("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield channel


async def generate(
    channel: Any,
    prompt: str = "x",
    timeout_s: float | None = 30.0,
    on_text: Callable[[], None] | None = None,
    on_queued: Callable[[], None] | None = None,
    **fields: Any,
) -> Outcome:
    """Make one generation to its end. `on_text` is called with every piece of output.

    `on_queued` is called whenever the place in the queue changes, if the call asks for progress.
    """
    outcome, begin_s = Outcome(), time.monotonic()
    call = rpc.GenerationServiceStub(channel).Generate(
        pb.GenerateRequest(model=MODEL, prompt=prompt, **fields), timeout=timeout_s
    )
    try:
        async for event in call:
            if on_queued and event.progress.phase == pb.GENERATION_PHASE_QUEUED:
                on_queued()
            if event.HasField("delta"):
                outcome.first_s = outcome.first_s or time.monotonic() - begin_s
                outcome.text += event.delta.text
                if on_text:
                    on_text()
            outcome.finished = event.HasField("finished")
    except grpc.aio.AioRpcError as failure:
        _take(failure, outcome)
    outcome.ended_s = time.monotonic()
    outcome.took_s = outcome.ended_s - begin_s
    return outcome


async def begun(channel: Any, prompt: str, **fields: Any) -> "asyncio.Task[Outcome]":
    """Start a generation, and return when it has had its first output or has ended."""
    began = asyncio.Event()
    task = asyncio.create_task(generate(channel, prompt, on_text=began.set, **fields))
    task.add_done_callback(lambda _: began.set())
    await began.wait()
    return task


async def queued(channel: Any, prompt: str) -> "asyncio.Task[Outcome]":
    """Start a generation, and return when it waits in the queue or has ended."""
    waits = asyncio.Event()
    events = pb.EventOptions(progress=True)
    task = asyncio.create_task(generate(channel, prompt, on_queued=waits.set, events=events))
    task.add_done_callback(lambda _: waits.set())
    await waits.wait()
    return task


async def leave(channel: Any, prompt: str, after_s: float) -> float:
    """Begin a generation, cancel it, and return when."""
    call = rpc.GenerationServiceStub(channel).Generate(
        pb.GenerateRequest(model=MODEL, prompt=prompt)
    )
    reading = asyncio.ensure_future(_read(call))
    await asyncio.sleep(after_s)
    left_s = time.monotonic()
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return left_s


async def _read(call: Any) -> None:
    async for _ in call:
        pass


def outcome_of(failure: grpc.aio.AioRpcError) -> Outcome:
    """The outcome of a call of any method that failed just now."""
    outcome = Outcome(ended_s=time.monotonic())
    _take(failure, outcome)
    return outcome


def _take(failure: grpc.aio.AioRpcError, outcome: Outcome) -> None:
    refused = Refusal(failure)
    outcome.code, outcome.details = refused.code, refused.message
    pushback = refused.trailers.get("grpc-retry-pushback-ms")
    outcome.pushback_ms = int(pushback) if pushback else None
    outcome.reason = refused.reason if "ErrorInfo" in refused.details else ""
    outcome.retry_info = "RetryInfo" in refused.details


async def health(channel: Any, name: str = "") -> bool:
    """Whether this name is SERVING."""
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=name), timeout=5
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def until_health(
    channel: Any, *, serving: bool, name: str = "", timeout_s: float = 20.0
) -> float:
    """Wait until this name is SERVING, or is not; return the seconds that it took."""
    begin_s = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                if await health(channel, name) == serving:
                    return time.monotonic() - begin_s
            except grpc.aio.AioRpcError:
                if not serving:
                    return time.monotonic() - begin_s
            await asyncio.sleep(0.01)
