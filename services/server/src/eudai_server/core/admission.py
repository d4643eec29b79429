"""Admits generations and embeddings: one bounded, fair queue per model in front of the backend.

The backend has a queue too, but that queue is unbounded, and its order and length are not visible.
This queue admits only as many requests as the backend runs at once, so the backend's own queue
stays empty.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from eudai_server.core.background import run_once
from eudai_server.core.embedding import Batch, Embedder, Vectors
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.events import (
    Batches,
    Delta,
    Event,
    Finished,
    FinishReason,
    Phase,
    Progress,
    Started,
    ToolCall,
)
from eudai_server.core.fair_queue import FairQueue, QueueFullError, Ticket
from eudai_server.core.generation import Backend, Generation, LoadOptions
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Identity
from eudai_server.core.turn import queue_full, wait_for_turn

# Queues of idle models are kept for their measurements, up to this number.
QUEUES_MAX = 256

Identify = Callable[[ModelName], Awaitable[Identity]]


class Admission:
    """A Backend and an Embedder that wrap others and limit how many requests run.

    At most `max_running` requests run on a model at once. The others wait for their turn; a request
    that would wait in vain is refused.
    """

    def __init__(
        self,
        backend: Backend,
        embedder: Embedder,
        identify: Identify,
        max_running: int,
        max_queued: int,
    ) -> None:
        """`max_running` and `max_queued` apply to each model.

        `identify` returns the model that a reference names; it raises ServiceError if there is
        none.
        """
        self.max_running = max_running
        self.max_queued = max_queued
        self._backend = backend
        self._embedder = embedder
        self._identify = identify
        self._queues: dict[str, FairQueue] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """The number of running requests, on all models."""
        return sum(queue.running for queue in self._queues.values())

    @property
    def queued(self) -> int:
        """The number of waiting requests, for all models."""
        return sum(queue.queued for queue in self._queues.values())

    async def generate(self, generation: Generation) -> Batches:
        """Wait for a turn, then generate. Progress events report changes of the queue position.

        Raises ServiceError QUEUE_FULL, QUOTA_EXCEEDED or DEADLINE_TOO_SHORT. A caller who leaves
        frees its place at once.
        """
        identity = await self._identify(generation.model)
        with self._place(identity, generation.caller) as (queue, ticket):
            places = wait_for_turn(queue, ticket, generation.deadline_s, generation.budget_end_s)
            async with aclosing(places):
                async for ahead in places:
                    yield [Progress(Phase.QUEUED, ahead)]
            if not queue.is_next(ticket):
                yield _budget_spent(identity)
                return
            with queue.slot(ticket), self._measured(queue, identity, generation) as run:
                async with aclosing(self._backend.generate(generation)) as batches:
                    async for batch in batches:
                        for event in batch:
                            run.observe(event)
                        yield batch

    async def embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        """Wait for a turn, then embed. Raises the errors of `generate`."""
        identity = await self._identify(batch.model)
        with self._place(identity, batch.caller) as (queue, ticket):
            async for _ in wait_for_turn(queue, ticket, batch.deadline_s):
                pass
            with queue.slot(ticket), _Run(queue) as run:
                async with aclosing(self._embedder.embed(batch)) as parts:
                    async for part in parts:
                        run.observe_output()
                        yield part

    async def settle(self, model: ModelName, load: LoadOptions) -> None:
        """Forward to the backend."""
        await self._backend.settle(model, load)

    async def close(self) -> None:
        """Stop waiting for abandoned generations."""
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _place(self, identity: Identity, caller: str) -> Iterator[tuple[FairQueue, Ticket]]:
        queue = self._queues.get(identity.key)
        if queue is None:
            self._forget_idle_queues()
            queue = self._queues[identity.key] = FairQueue(self.max_running, self.max_queued)
        try:
            with queue.place(caller) as ticket:
                yield queue, ticket
        except QueueFullError:
            raise queue_full(queue) from None
        finally:
            if queue.is_blank:
                self._queues.pop(identity.key, None)

    def _forget_idle_queues(self) -> None:
        if len(self._queues) < QUEUES_MAX:
            return
        for key, queue in list(self._queues.items()):
            if not (queue.running or queue.queued or key in self._settling):
                del self._queues[key]

    @contextmanager
    def _measured(
        self, queue: FairQueue, identity: Identity, generation: Generation
    ) -> "Iterator[_Run]":
        try:
            with _Run(queue) as run:
                yield run
        finally:
            self._settle_abandoned(queue, identity, generation)

    def _settle_abandoned(
        self, queue: FairQueue, identity: Identity, generation: Generation
    ) -> None:
        key = identity.key
        if queue.abandoned > queue.max_running and key not in self._settling:
            settle = partial(self._settle, queue, generation.model, generation.load)
            name = f"settle {key}"
            task = self._settling[key] = asyncio.create_task(run_once(settle, name), name=name)
            task.add_done_callback(lambda _: self._settling.pop(key))

    async def _settle(self, queue: FairQueue, model: ModelName, load: LoadOptions) -> None:
        try:
            await self._backend.settle(model, load)
        finally:  # whatever happens, nobody must wait for ever
            queue.abandoned = 0
            queue.notify()


class _Run:
    """Measures one request for its queue while it has a slot."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self._begin_s = time.monotonic()
        self._has_output = False
        # Whether the backend is known to evaluate the prompt, which it stops only with a delay.
        self._evaluates = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After any failure but a stall, the backend has stopped by itself.
        stopped = isinstance(error, ServiceError) and error.reason is not Reason.BACKEND_STALLED
        if self._evaluates and not stopped:
            self._queue.abandoned += 1
        if self._has_output:
            self._queue.held_s.add(time.monotonic() - self._begin_s)

    def observe(self, event: Event) -> None:
        if isinstance(event, Progress) and event.phase is Phase.EVALUATING_PROMPT:
            self._evaluates = True
            self._begin_s = time.monotonic()  # exclude the model load
        elif isinstance(event, Delta | ToolCall):
            self._evaluates = False
            self.observe_output()
        elif isinstance(event, Finished) and event.reason is not FinishReason.TIME_BUDGET:
            self._evaluates = False
            self._queue.abandoned = 0

    def observe_output(self) -> None:
        if not self._has_output:
            self._has_output = True
            self._queue.abandoned = 0
            self._queue.first_output_s.add(time.monotonic() - self._begin_s)


def _budget_spent(identity: Identity) -> list[Event]:
    """The events of a generation whose time budget ended before the backend got it."""
    return [
        Started(identity.name, identity.digest, 0, None),
        Finished(FinishReason.TIME_BUDGET),
    ]
