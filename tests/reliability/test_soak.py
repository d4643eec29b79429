"""R17: a mix of everything for a long time; memory must not grow, and every failure is explained.

`make soak MINUTES=30 MIX=faults` runs one mix, and MIX=leavers the other.
"""

import asyncio
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import grpc
import pytest
from calls import Outcome, channel_to, generate, health, leave, outcome_of, until_health
from faulty_ollama import faulty_ollama
from observed_server import Observed, observing
from relay import Relay, relaying
from reliability_table import Row, percentile
from scripted_ollama import numbered

TOKENS = 10
WORKERS = 24
SAMPLE_S = 2.0
WINDOW_S = 60.0
# A shorter run says nothing about an hour, and too little happens in it to expect every failure.
LONG_S = 600.0
MIB = 1 << 20
LIMITS: Any = {
    "EUDAI_EVENT_TIMEOUT": "2",
    "EUDAI_FIRST_EVENT_TIMEOUT": "3",
    "EUDAI_MAX_RUNNING": "16",
    "EUDAI_MAX_QUEUED": "16",
}
# Statuses with which a fault of this Ollama, or a frozen Ollama, may end a call.
EXPLAINED = {
    "BACKEND_STREAM_INTERRUPTED": "UNAVAILABLE",
    "BACKEND_UNREACHABLE": "UNAVAILABLE",
    "BACKEND_STALLED": "UNAVAILABLE",
    "BACKEND_FAILURE": "INTERNAL",
    "QUEUE_FULL": "RESOURCE_EXHAUSTED",
    "DEADLINE_TOO_SHORT": "RESOURCE_EXHAUSTED",
}


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the callers of a soak do."""

    # The relative frequency of each.
    asks: int
    leaves: int
    hurries: int
    checks: int
    calls_per_connection: int
    # The share of generations in which Ollama has a fault.
    fault_share: float
    # By how a call ended: at least this share of all calls must have ended so. Without a floor, a
    # server that refused everything would pass.
    floors: Mapping[str, float]
    # Must have happened at least once in a long run.
    seen: frozenset[str] = frozenset()


FAULTS = Mix(
    asks=6,
    leaves=1,
    hurries=1,
    checks=1,
    calls_per_connection=50,
    fault_share=0.05,
    floors={"OK": 0.3, "left": 0.05, "health True": 0.05, "DEADLINE_EXCEEDED": 0.005},
    seen=frozenset(f"{code} {reason}" for reason, code in EXPLAINED.items()) | {"health False"},
)
LEAVERS = Mix(
    asks=1,
    leaves=5,
    hurries=4,
    checks=1,
    calls_per_connection=2000,
    fault_share=0.005,
    floors={"OK": 0.05, "left": 0.3, "health True": 0.05, "DEADLINE_EXCEEDED": 0.02},
    seen=frozenset({"UNAVAILABLE BACKEND_UNREACHABLE", "RESOURCE_EXHAUSTED DEADLINE_TOO_SHORT"}),
)


class Traffic:
    """Callers who ask, leave, hurry and check health, for a limited time."""

    def __init__(self, mix: Mix, relay: Relay, end_s: float) -> None:
        self.ends: Counter[str] = Counter()
        self.unexplained: list[Any] = []
        self._relay = relay
        self._end_s = end_s
        self._rng = random.Random(17)
        self._cut_s = 0.0
        self._calls_per_connection = mix.calls_per_connection
        self._kinds: list[Callable[[Any], Awaitable[str]]] = [
            *[self._ask] * mix.asks,
            *[self._leave] * mix.leaves,
            *[self._hurry] * mix.hurries,
            *[self._check] * mix.checks,
        ]

    async def work(self) -> None:
        """Make calls as one caller, with a new connection now and then."""
        while time.monotonic() < self._end_s:
            async with channel_to(self._relay.address) as channel:
                for _ in range(self._calls_per_connection):
                    if time.monotonic() > self._end_s:
                        return
                    self.ends[await self._rng.choice(self._kinds)(channel)] += 1

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
            return self._judge(outcome_of(failure))

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


@dataclass
class Soak:
    """What was measured in a run of one mix."""

    traffic: Traffic
    before: dict[str, Any]
    after: dict[str, Any] = field(default_factory=dict)
    # By the seconds since the beginning.
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    async def sample(self, server: Observed) -> None:
        """Read the server's state every SAMPLE_S until cancelled."""
        begin_s = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            self.samples.append((time.monotonic() - begin_s, await server.inside()))


async def _soak(mix: Mix, span_s: float) -> Soak:
    async with (
        faulty_ollama(17, mix.fault_share, tokens=TOKENS, token_ms=5) as (url, ollama_pid),
        observing(url, **LIMITS) as server,
        relaying(server.address) as relay,
        channel_to(server.address) as aside,
    ):
        await until_health(aside, serving=True)
        traffic = Traffic(mix, relay, time.monotonic() + span_s)
        soak = Soak(traffic, before=await server.inside())
        around = [
            asyncio.create_task(step) for step in (traffic.disturb(ollama_pid), soak.sample(server))
        ]
        await asyncio.gather(*(traffic.work() for _ in range(WORKERS)))
        for task in around:
            task.cancel()
        await asyncio.gather(*around, return_exceptions=True)
        os.kill(ollama_pid, signal.SIGCONT)
        await server.until_idle(timeout_s=30)
        relay.cut()
        await asyncio.sleep(2)
        soak.after = await server.inside()
    return soak


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(
            FAULTS,
            id="faults",
            marks=pytest.mark.row(
                "R17",
                "a soak of faults and leaving callers: memory stays flat, every error is explained",
            ),
        ),
        pytest.param(
            LEAVERS,
            id="leavers",
            marks=pytest.mark.row(
                "R17b", "the same with callers who mostly leave or hurry, on long-lived connections"
            ),
        ),
    ],
)
async def test_a_soak_keeps_memory_and_descriptors_flat(
    mix: Mix, figures: Row, pytestconfig: pytest.Config
) -> None:
    span_s = 60 * (pytestconfig.getoption("--minutes") or figures.some(30, 6) / 60)
    soak = await _soak(mix, span_s)
    _note_calls(figures, mix, soak.traffic, span_s)
    for what in ("running", "queued", "tasks", "fds"):
        before, after = soak.before[what], soak.after[what]
        figures.count(f"{what}: {before} before, after", after, "<=", before + 4)
    figures.count("errors logged", soak.after["errors"], "==", 0)
    lags_ms = [inside["lag_p99_ms"] for _, inside in soak.samples]
    figures.time(
        "loop lag, p99 of each 2 s, the median of these, ms", percentile(lags_ms, 0.5), "<=", 20
    )
    figures.time("loop lag, worst ms", max(inside["lag_max_ms"] for _, inside in soak.samples))
    _note_memory(figures, [(at_s, inside["rss"]) for at_s, inside in soak.samples], span_s)


def _note_calls(figures: Row, mix: Mix, traffic: Traffic, span_s: float) -> None:
    calls = traffic.ends.total()
    figures.count("calls", calls, ">=", 10 * span_s)
    figures.count("unexplained", len(traffic.unexplained), "==", 0)
    if traffic.unexplained:
        print(traffic.unexplained[:20])
    is_long = span_s >= LONG_S
    for end, count in traffic.ends.most_common():
        if end in mix.floors:
            figures.count(f"ended {end}", count, ">=", round(mix.floors[end] * calls))
        else:
            figures.count(f"ended {end}", count)
    expected = mix.floors.keys() | (mix.seen if is_long else frozenset())
    missing = sorted(expected - traffic.ends.keys())
    figures.count(
        f"kinds of end that never occurred {missing or ''}".strip(), len(missing), "==", 0
    )


def _note_memory(figures: Row, samples: list[tuple[float, int]], span_s: float) -> None:
    for part in (1, 2, 3):
        rss = samples[len(samples) * part // 3 - 1][1]
        figures.time(f"memory after {part} of 3 parts, MiB", rss / MIB)
    if span_s >= LONG_S:
        steady = samples[len(samples) // 3 :]
        figures.time(
            "memory, MiB an hour, after the first third",
            _growth_per_s(steady) * 3600 / MIB,
            "<=",
            1,
        )
        figures.time("the same by least squares", _least_squares(steady) * 3600 / MIB)


def _growth_per_s(samples: list[tuple[float, int]]) -> float:
    """The growth in bytes a second of the memory that the server needs.

    The median slope between any two of the least values of each minute (Theil and Sen). Memory that
    leaks raises every later minimum. A burst of waiting calls adds some MiB for a second or two,
    more often on a busy machine, and would move a straight line through all samples by more than
    the bound.
    """
    least: dict[int, tuple[float, int]] = {}
    for at_s, rss in samples:
        window = int(at_s // WINDOW_S)
        least[window] = min(least.get(window, (at_s, rss)), (at_s, rss), key=lambda one: one[1])
    points = sorted(least.values())
    return statistics.median(
        (y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2)
    )


def _least_squares(samples: list[tuple[float, int]]) -> float:
    """The slope of the straight line through all samples."""
    times, values = zip(*samples, strict=True)
    return statistics.linear_regression(times, values).slope
