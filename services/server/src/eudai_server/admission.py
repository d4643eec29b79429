"""Requests for a model go in; they come out in turn, no more at once than the backend runs, no more waiting than are allowed.

Ollama has a queue too, without bound, order or sight. Ours stands in front of it, so that it stays empty.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from eudai_server.errors import Reason, ServiceError
from eudai_server.events import Event, Finished, FinishReason, Phase, Progress, Started
from eudai_server.generation import Generation
from eudai_server.reference import key_of, listed_name

# Callers that were refused together must not come back together.
RETRY_AFTER_MIN_S = 0.8
RETRY_AFTER_MAX_S = 1.2

Generate = Callable[[Generation], AsyncGenerator[Sequence[Event], None]]


class _Line:
    """Those who run and those who wait for one model, in order of arrival."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[asyncio.Event] = deque()

    def tell(self) -> None:
        """Let everyone who waits look again."""
        for moved in self.waiting:
            moved.set()


class Admission:
    """A bounded queue for each model."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        """Both are for each model."""
        self.max_running = max_running
        self.max_queued = max_queued
        self._lines: dict[str, _Line] = {}

    @property
    def running(self) -> int:
        """Generations that run, of all models."""
        return sum(line.running for line in self._lines.values())

    @property
    def queued(self) -> int:
        """Generations that wait, of all models."""
        return sum(len(line.waiting) for line in self._lines.values())

    async def generate(self, generation: Generation, generate: Generate) -> AsyncGenerator[Sequence[Event], None]:
        """Wait for a turn, then yield what `generate` yields. Progress tells how many are ahead, whenever that changes.

        Raises ServiceError QUEUE_FULL. A caller who leaves is out of the queue at once.
        """
        key = key_of(generation.model)
        line = self._lines.setdefault(key, _Line())
        begin_ns = time.monotonic_ns()
        admitted = False
        moved = asyncio.Event()
        try:
            if line.running >= self.max_running or line.waiting:
                if len(line.waiting) >= self.max_queued:
                    raise _queue_full(self.max_queued)
                line.waiting.append(moved)
                told = None
                while not self._is_next(line, moved):
                    ahead = line.running + line.waiting.index(moved)
                    if ahead != told:
                        yield [Progress(Phase.QUEUED, ahead)]
                        told = ahead
                    if not await _moves(moved, generation):
                        yield _spent(generation)
                        return
                line.waiting.popleft()
            line.running += 1
            admitted = True
            line.tell()  # with several slots free, the next one's turn has come too
            queue_ns = time.monotonic_ns() - begin_ns
            async with aclosing(generate(generation)) as batches:
                async for batch in batches:
                    yield [_with_queue(event, queue_ns) for event in batch]
        finally:
            if admitted:
                line.running -= 1
            elif moved in line.waiting:
                line.waiting.remove(moved)
            line.tell()
            if not line.running and not line.waiting:
                self._lines.pop(key, None)

    def _is_next(self, line: _Line, moved: asyncio.Event) -> bool:
        return line.running < self.max_running and line.waiting[0] is moved


async def _moves(moved: asyncio.Event, generation: Generation) -> bool:
    """Wait until somebody ahead has left; False if the caller's time budget ends before."""
    budget_s = None if generation.budget_end_s is None else max(generation.budget_end_s - time.monotonic(), 0)
    try:
        async with asyncio.timeout(budget_s):
            await moved.wait()
    except TimeoutError:
        return False
    moved.clear()
    return True


def _spent(generation: Generation) -> list[Event]:
    started = Started(listed_name(generation.model), "", 0, datetime.now(UTC))
    return [started, Finished(FinishReason.TIME_BUDGET)]


def _with_queue(event: Event, queue_ns: int) -> Event:
    if not isinstance(event, Finished):
        return event
    return replace(event, timings=replace(event.timings, queue_ns=queue_ns))


def _queue_full(max_queued: int) -> ServiceError:
    retry_after_s = random.uniform(RETRY_AFTER_MIN_S, RETRY_AFTER_MAX_S)  # noqa: S311 - it spreads callers, nothing secret
    return ServiceError(
        Reason.QUEUE_FULL,
        f"{max_queued} requests wait for this model already, which is all that may (EUDAI_MAX_QUEUED)",
        retry_after_s=retry_after_s,
    )
