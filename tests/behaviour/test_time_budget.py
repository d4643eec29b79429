"""A time budget ends a generation without an error, even if bytes never stop arriving."""

import asyncio
import time
from itertools import chain, repeat
from typing import Any

from eudai.v1 import generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from scripted_ollama import HEADERS_STREAM, ScriptedOllama, chunk, line
from serving import Server

BUDGET = Duration(nanos=400_000_000)


async def test_a_budget_ends_an_answer_that_never_waits(
    server: Server, ollama: ScriptedOllama
) -> None:
    piece = chunk(line(response="x" * 20_000, done=False))
    endless: Any = chain([HEADERS_STREAM], repeat(piece))
    ollama.scripts["/api/generate"] = endless
    call = server.generation.Generate(
        pb.GenerateRequest(model="gemma3:270m", prompt="x", time_budget=BUDGET), timeout=20
    )
    # A client that reads slowly lets bytes gather, so that no read has to wait for them.
    slow_until_s = time.monotonic() + 2 * BUDGET.ToMilliseconds() / 1000
    last = await call.read()
    async with asyncio.timeout(20):
        while not last.HasField("finished"):
            await asyncio.sleep(0.01 if time.monotonic() < slow_until_s else 0)
            last = await call.read()

    assert last.finished.reason == pb.FINISH_REASON_TIME_BUDGET
    assert last.finished.timings.total.ToMilliseconds() < 5000
