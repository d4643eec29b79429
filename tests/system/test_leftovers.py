"""What a cancel leaves running in the real Ollama, and for how long: the figures that ADR 14 chose by."""

import asyncio
import random
import time
from collections.abc import Iterator

import psutil
import pytest
from eudai.v1 import generation_service_pb2 as pb
from processes import runners
from serving import Server, collect, config_for, serving, text_of

WORDS = ("river", "stone", "tree", "cloud", "bird", "house", "green", "seven")
SETTLED_S = 0.4
TIMEOUT_S = 40.0


def long_prompts() -> Iterator[str]:
    """Each another one, since Ollama remembers what it evaluated."""
    rng = random.Random(14)  # noqa: S311 - texts, no secrets
    while True:
        yield " ".join(rng.choice(WORDS) for _ in range(3000))


async def busy_s(process: psutil.Process) -> float:
    """How long the model's process goes on."""
    begin_s = last_s = time.monotonic()
    used = process.cpu_times().user
    while time.monotonic() - last_s < SETTLED_S:
        await asyncio.sleep(0.02)
        now = process.cpu_times().user
        if now > used:
            used, last_s = now, time.monotonic()
        assert time.monotonic() - begin_s < TIMEOUT_S
    return last_s - begin_s


async def leave_after(server: Server, prompt: str, seconds: float) -> None:
    """Begin a generation and leave it."""
    call = server.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt=prompt))
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.timeout(180)
async def test_what_cancels_leave_running_is_bounded(real_url: str) -> None:
    prompts = long_prompts()
    async with serving(config_for(real_url, max_running=1, max_queued=8)) as server:
        await server.until("", "SERVING")
        await collect(server, prompt="hi", stop={"max_output_tokens": 2})
        process = next(runners())
        await leave_after(server, "Once upon a time", 0.5)
        generating_s = await busy_s(process)
        begin_s = time.monotonic()
        await collect(server, prompt=next(prompts), stop={"max_output_tokens": 1})
        whole_s = time.monotonic() - begin_s
        await leave_after(server, next(prompts), 0.5)
        evaluating_s = await busy_s(process)
        for _ in range(20):
            await leave_after(server, next(prompts), 0.2)
        piled_s = await busy_s(process)
        answer = await collect(server, prompt="hi", stop={"max_output_tokens": 2})
    print(  # noqa: T201 - the figures
        f"left running: generating {generating_s * 1000:.0f} ms; evaluating {evaluating_s:.2f} s of {whole_s:.1f} s; "
        f"20 left one after the other {piled_s:.2f} s"
    )

    assert generating_s < 0.5
    assert evaluating_s < whole_s
    assert piled_s < whole_s
    assert text_of(answer)
