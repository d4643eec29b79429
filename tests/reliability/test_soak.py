"""R17: everything that the other rows do, mixed, for as long as one likes: nothing grows, nothing is unexplained."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from buggy import buggy_ollama
from calls import Outcome, channel_to, generate, health, leave, until_health
from observed import Observed, observing
from relay import Relay, relaying
from scripted_ollama import numbered
from table import Row, percentile

TOKENS = 10
WORKERS = 24
SAMPLE_S = 2.0
MIB = 1 << 20
# What a fault of this Ollama, or a cut of ours, may end a call with.
EXPLAINED = {
    "BACKEND_STREAM_INTERRUPTED",
    "BACKEND_UNREACHABLE",
    "BACKEND_STALLED",
    "BACKEND_FAILURE",
    "QUEUE_FULL",
    "DEADLINE_TOO_SHORT",
}


class Traffic:
    """Callers who ask, leave, hurry and check, for a time."""

    def __init__(self, server: Observed, relay: Relay, end_s: float) -> None:
        self.ends: Counter[str] = Counter()
        self.unexplained: list[Any] = []
        self._server = server
        self._relay = relay
        self._end_s = end_s
        self._rng = random.Random(17)
        self._cut_s = 0.0

    async def work(self) -> None:
        """One caller, with a new connection now and then."""
        while time.monotonic() < self._end_s:
            async with channel_to(self._relay.address) as channel:
                kinds: list[Callable[[Any], Awaitable[str]]] = [self._ask] * 6 + [
                    self._leave,
                    self._hurry,
                    self._check,
                ]
                for _ in range(50):
                    if time.monotonic() > self._end_s:
                        return
                    self.ends[await self._rng.choice(kinds)(channel)] += 1

    async def disturb(self, ollama_pid: int) -> None:
        """Freeze Ollama for a while, and cut all connections."""
        while time.monotonic() < self._end_s - 10:
            await asyncio.sleep(self._rng.uniform(5, 30))
            os.kill(ollama_pid, signal.SIGSTOP)
            await asyncio.sleep(self._rng.uniform(0.1, 3))
            os.kill(ollama_pid, signal.SIGCONT)
            await asyncio.sleep(self._rng.uniform(5, 30))
            self._cut_s = time.monotonic()
            self._relay.cut()

    async def _ask(self, channel: Any) -> str:
        return self._judge(await generate(channel, timeout_s=60))

    async def _hurry(self, channel: Any) -> str:
        return self._judge(await generate(channel, timeout_s=self._rng.uniform(0.001, 0.1)))

    async def _check(self, channel: Any) -> str:
        try:
            return f"health {await health(channel)}"
        except grpc.aio.AioRpcError as failure:
            return self._judge(Outcome(failure.code(), ended_s=time.monotonic()))

    async def _leave(self, channel: Any) -> str:
        await leave(channel, "x", self._rng.uniform(0, 0.1))
        return "left"

    def _judge(self, outcome: Outcome) -> str:
        whole = "".join(numbered(TOKENS))
        right = outcome.text == whole if outcome.finished else whole.startswith(outcome.text)
        cut = outcome.code is grpc.StatusCode.UNAVAILABLE and abs(outcome.ended_s - self._cut_s) < 5
        known = (
            outcome.finished
            or outcome.reason in EXPLAINED
            or outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED
            or cut
        )
        if not right or not known:
            self.unexplained.append(outcome)
        return f"{outcome.code.name} {outcome.reason}".strip()


async def _sample(
    server: Observed, begin_s: float, seen: list[tuple[float, dict[str, Any]]]
) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        seen.append(((time.monotonic() - begin_s) / 3600, await server.inside()))


@pytest.mark.timeout(0)
@pytest.mark.row(
    "R17",
    "a soak of faults, leavers and cuts: memory and descriptors flat, the loop on time, no error unexplained",
)
async def test_a_soak_wears_nothing_out(figures: Row, pytestconfig: pytest.Config) -> None:
    span_s = 60 * (pytestconfig.getoption("--minutes") or figures.some(30, 6) / 60)
    limits: Any = {
        "EUDAI_EVENT_TIMEOUT": "2",
        "EUDAI_FIRST_EVENT_TIMEOUT": "3",
        "EUDAI_MAX_RUNNING": "16",
        "EUDAI_MAX_QUEUED": "16",
    }
    seen: list[tuple[float, dict[str, Any]]] = []
    async with (
        buggy_ollama(seed=17, fault_share=0.05, tokens=TOKENS, token_ms=5) as (url, ollama_pid),
        observing(url, **limits) as server,
        relaying(server.address) as relay,
        channel_to(server.address) as aside,
    ):
        await until_health(aside, serving=True)
        before = await server.inside()
        begin_s = time.monotonic()
        traffic = Traffic(server, relay, begin_s + span_s)
        around = [
            asyncio.create_task(step)
            for step in (traffic.disturb(ollama_pid), _sample(server, begin_s, seen))
        ]
        await asyncio.gather(*(traffic.work() for _ in range(WORKERS)))
        for task in around:
            task.cancel()
        await asyncio.gather(*around, return_exceptions=True)
        os.kill(ollama_pid, signal.SIGCONT)
        await server.until_idle(timeout_s=30)
        relay.cut()
        await asyncio.sleep(2)
        after = await server.inside()
    for end, count in traffic.ends.most_common():
        figures.count(f"ended {end}", count)
    figures.count("calls", traffic.ends.total(), ">=", 10 * span_s)
    figures.count("unexplained", len(traffic.unexplained), "==", 0)
    for what in ("running", "queued", "tasks", "fds"):
        figures.count(f"{what}: {before[what]} before, after", after[what], "<=", before[what] + 4)
    steady = [(hour, inside["rss"] / MIB) for hour, inside in seen[len(seen) // 3 :]]
    figures.time(
        "loop lag, p99 of each 2 s, the median of these, ms",
        percentile([inside["lag_p99_ms"] for _, inside in seen], 0.5),
        "<=",
        20,
    )
    figures.time("loop lag, worst ms", max(inside["lag_max_ms"] for _, inside in seen))
    for part in (1, 2, 3):
        figures.time(
            f"memory after {part} of 3 parts, MiB", seen[len(seen) * part // 3 - 1][1]["rss"] / MIB
        )
    if span_s >= 600:  # a shorter run says nothing of an hour
        figures.time("memory, MiB an hour, after the first third", _slope(steady), "<=", 1)


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line through them, by least squares."""
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    return float(
        sum((x - mean_x) * (y - mean_y) for x, y in points)
        / sum((x - mean_x) ** 2 for x, _ in points)
    )
