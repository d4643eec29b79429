"""How long the real Ollama works after cancellations: the figures behind ADR 14."""

import random
import time
from collections.abc import Iterator

import psutil
import pytest
from calls import leave
from processes import Runners, last_work_s
from serving import collect, config_for, serving, text_of

WORDS = ("river", "stone", "tree", "cloud", "bird", "house", "green", "seven")
SETTLED_S = 0.4
TIMEOUT_S = 40.0


def long_prompts() -> Iterator[str]:
    """Prompts that differ, because Ollama caches what it has evaluated."""
    rng = random.Random(14)
    while True:
        yield " ".join(rng.choice(WORDS) for _ in range(3000))


async def left_running_s(process: psutil.Process) -> float:
    """How many seconds the runner continues from now."""
    begin_s = time.monotonic()
    return await last_work_s(process, SETTLED_S, TIMEOUT_S) - begin_s


@pytest.mark.timeout(180)
async def test_the_work_that_cancellations_leave_is_bounded(real_url: str) -> None:
    prompts = long_prompts()
    async with serving(config_for(real_url, max_running=1, max_queued=8)) as server:
        await server.until("", "SERVING")
        await collect(server, prompt="hi", stop={"max_output_tokens": 2})
        (process,) = Runners(real_url, "gemma3:270m").now()
        await leave(server.channel, "Once upon a time", 0.5)
        generating_s = await left_running_s(process)
        begin_s = time.monotonic()
        await collect(server, prompt=next(prompts), stop={"max_output_tokens": 1})
        whole_s = time.monotonic() - begin_s
        await leave(server.channel, next(prompts), 0.5)
        evaluating_s = await left_running_s(process)
        for _ in range(20):
            await leave(server.channel, next(prompts), 0.2)
        piled_s = await left_running_s(process)
        answer = await collect(server, prompt="hi", stop={"max_output_tokens": 2})
    print(
        f"left running: generating {generating_s * 1000:.0f} ms; "
        f"evaluating {evaluating_s:.2f} s of {whole_s:.1f} s; "
        f"20 left one after the other {piled_s:.2f} s"
    )

    assert generating_s < whole_s
    assert evaluating_s < whole_s
    assert piled_s < whole_s
    assert text_of(answer)
