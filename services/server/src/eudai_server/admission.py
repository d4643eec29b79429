"""A backend goes in; the same comes out with a bounded queue in front, for each model.

Ollama has a queue too, without bound, order or sight. Ours stands in front of it, so that it stays empty.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from eudai_server.errors import Reason, ServiceError
from eudai_server.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Phase,
    Progress,
    Started,
    ToolCall,
)
from eudai_server.generation import Backend, Generation, LoadOptions
from eudai_server.line import Line, Turn
from eudai_server.model_name import key_of, listed_name

# Callers that were refused together must not come back together.
RETRY_AFTER_MIN_S = 0.8
RETRY_AFTER_MAX_S = 1.2

Batches = AsyncGenerator[Sequence[Event], None]


class Admission:
    """Fulfils the port Backend with another one, no more at once than that one runs, in turn, refusing what would wait in vain."""

    def __init__(self, backend: Backend, max_running: int, max_queued: int) -> None:
        """Both are for each model."""
        self.max_running = max_running
        self.max_queued = max_queued
        self._backend = backend
        self._lines: dict[str, Line] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """Generations that run, of all models."""
        return sum(line.running for line in self._lines.values())

    @property
    def queued(self) -> int:
        """Generations that wait, of all models."""
        return sum(line.queued for line in self._lines.values())

    async def generate(self, generation: Generation) -> Batches:
        """Wait for a turn, then generate. Progress tells how many are ahead, whenever that changes.

        Raises ServiceError QUEUE_FULL, QUOTA_EXCEEDED or DEADLINE_TOO_SHORT. A caller who leaves is out of the queue at once.
        """
        key = key_of(generation.model)
        line = self._lines.setdefault(key, Line(self.max_running, self.max_queued))
        begin_ns = time.monotonic_ns()
        turn = None
        try:
            if line.queued or not line.has_slot:
                turn = line.enter(generation.caller)
                async with aclosing(self._wait(line, turn, generation)) as places:
                    async for place in places:
                        yield [place]
                if turn and not line.is_next(turn):
                    yield _spent(generation)
                    return
            line.begin(turn)
            turn = None
            queue_ns = time.monotonic_ns() - begin_ns
            async with aclosing(self._run(line, generation)) as batches:
                async for batch in batches:
                    yield [_with_queue(event, queue_ns) for event in batch]
        finally:
            if turn:
                line.leave(turn)
            if line.is_blank:
                self._lines.pop(key, None)

    async def settle(self, model: str, load: LoadOptions) -> None:
        """As the backend does."""
        await self._backend.settle(model, load)

    async def close(self) -> None:
        """Wait for nothing any more."""
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(
        self, line: Line, turn: Turn | None, generation: Generation
    ) -> AsyncGenerator[Progress, None]:
        """Until it is that one's turn, or the caller's time budget is spent."""
        if turn is None:
            raise _refused(
                Reason.QUEUE_FULL,
                f"{self.max_queued} requests wait for this model already, which is all that may (EUDAI_MAX_QUEUED)",
            )
        _check_deadline(generation, line.expected_s(turn))
        told = None
        while not line.is_next(turn):
            ahead = line.ahead(turn)
            if ahead != told:
                yield Progress(Phase.QUEUED, ahead)
                told = ahead
            if not await _moves(turn, generation):
                return
            if turn.evicted:
                raise _refused(
                    Reason.QUOTA_EXCEEDED,
                    "others wait for this model too, and this caller had the largest part of the queue",
                )
        if line.queued > 1:
            # Only where somebody else can use the turn; else a guess that is wrong would never be corrected.
            _check_deadline(generation, line.first_output_s.value)

    async def _run(self, line: Line, generation: Generation) -> Batches:
        run = _Run(line)
        try:
            async with aclosing(self._backend.generate(generation)) as batches:
                async for batch in batches:
                    for event in batch:
                        run.see(event)
                    yield batch
        except ServiceError as error:
            run.evaluates = run.evaluates and error.reason is Reason.BACKEND_STALLED
            raise
        finally:
            run.end()
            self._settle_leftovers(line, generation)

    def _settle_leftovers(self, line: Line, generation: Generation) -> None:
        key = key_of(generation.model)
        if line.leftovers > line.max_running and key not in self._settling:
            task = self._settling[key] = asyncio.create_task(
                self._settle(line, generation.model, generation.load), name=f"settle {key}"
            )
            task.add_done_callback(lambda _: self._settling.pop(key))

    async def _settle(self, line: Line, model: str, load: LoadOptions) -> None:
        await self._backend.settle(model, load)
        line.leftovers = 0
        line.tell()


class _Run:
    """What one run teaches its line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._begin_s = time.monotonic()
        self._output = False
        # Whether the backend evaluates the prompt, as far as is known; it stops that with a delay.
        self.evaluates = False

    def see(self, event: Event) -> None:
        if isinstance(event, Progress) and event.phase is Phase.EVALUATING_PROMPT:
            self.evaluates = True
            self._begin_s = time.monotonic()  # the load before it was a matter of this once
        elif isinstance(event, Delta | ToolCall) and not self._output:
            self.evaluates, self._output = False, True
            self._line.leftovers = 0
            self._line.first_output_s.add(time.monotonic() - self._begin_s)
        elif isinstance(event, Finished) and event.reason is not FinishReason.TIME_BUDGET:
            self.evaluates = False
            self._line.leftovers = 0

    def end(self) -> None:
        self._line.leftovers += self.evaluates
        if self._output:
            self._line.held_s.add(time.monotonic() - self._begin_s)
        self._line.end()


async def _moves(turn: Turn, generation: Generation) -> bool:
    """Wait until somebody ahead has left; False if the caller's time budget ends before."""
    budget_s = (
        None
        if generation.budget_end_s is None
        else max(generation.budget_end_s - time.monotonic(), 0)
    )
    try:
        async with asyncio.timeout(budget_s):
            await turn.moved.wait()
    except TimeoutError:
        return False
    turn.moved.clear()
    return True


def _check_deadline(generation: Generation, expected_s: float | None) -> None:
    """Refuse at once what would only wait in vain."""
    if expected_s is None or generation.deadline_s is None:
        return
    left_s = generation.deadline_s - time.monotonic()
    if left_s < expected_s:
        raise ServiceError(
            Reason.DEADLINE_TOO_SHORT,
            f"the first output is about {expected_s:.1f} s away, and the call's deadline {max(left_s, 0):.1f} s; allow more time",
        )


def _spent(generation: Generation) -> list[Event]:
    started = Started(listed_name(generation.model), "", 0, datetime.now(UTC))
    return [started, Finished(FinishReason.TIME_BUDGET)]


def _with_queue(event: Event, queue_ns: int) -> Event:
    if not isinstance(event, Finished):
        return event
    return replace(event, timings=replace(event.timings, queue_ns=queue_ns))


def _refused(reason: Reason, message: str) -> ServiceError:
    retry_after_s = random.uniform(RETRY_AFTER_MIN_S, RETRY_AFTER_MAX_S)  # noqa: S311 - it spreads callers, nothing secret
    return ServiceError(reason, message, retry_after_s=retry_after_s)
