"""Paces the responses of a generation: heartbeats during silence, and deltas merged per interval.

Neither delays any other event, and neither stops reading from the backend.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.errors import ServiceError

# The limit of a gathered delta; a larger one is sent before its interval has passed.
GATHERED_BYTES_MAX = 64 << 10

Responses = AsyncGenerator[pb.GenerateResponse, None]


async def beating(
    responses: Responses, interval_s: float, beat: Callable[[], pb.GenerateResponse]
) -> Responses:
    """Yield the responses, and a heartbeat whenever none arrived for `interval_s`."""
    async with aclosing(_interrupted(responses, lambda: interval_s)) as items:
        async for response in items:
            yield beat() if response is None else response


async def gathered(responses: Responses, interval_s: float) -> Responses:
    """Yield the responses, with the deltas that arrive within `interval_s` merged into one.

    A delta after a longer silence, such as the first one, is sent at once.
    """
    held = _HeldDeltas(interval_s)
    async with aclosing(_interrupted(responses, held.timeout_s)) as items:
        try:
            async for response in items:
                delta = response.delta if response and response.HasField("delta") else None
                if held and not (delta and held.accepts(delta)):
                    yield held.release()
                if delta and not held.lets_pass():
                    held.add(delta)
                    if held.is_due:
                        yield held.release()
                elif response:
                    yield response
        except ServiceError:
            if held:
                yield held.release()
            raise
        if held:
            yield held.release()


class _HeldDeltas:
    """Deltas of one channel that will be sent as one."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._clock = asyncio.get_running_loop().time
        self._due_s = self._clock()
        self._deltas: list[pb.Delta] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._deltas)

    def timeout_s(self) -> float | None:
        """Seconds until the held deltas must be sent; None if there are none."""
        return max(self._due_s - self._clock(), 0) if self._deltas else None

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._due_s or self._bytes >= GATHERED_BYTES_MAX

    def lets_pass(self) -> bool:
        """Whether a delta may be sent at once. If so, the next interval starts."""
        if self._deltas or self._clock() < self._due_s:
            return False
        self._due_s = self._clock() + self._interval_s
        return True

    def accepts(self, delta: pb.Delta) -> bool:
        """Whether a delta belongs to the channel of the held deltas."""
        return delta.WhichOneof("channel") == self._deltas[0].WhichOneof("channel")

    def add(self, delta: pb.Delta) -> None:
        self._deltas.append(delta)
        self._bytes += delta.ByteSize()

    def release(self) -> pb.GenerateResponse:
        """The held deltas as one response. The next interval starts."""
        merged = pb.Delta(logprobs=(token for delta in self._deltas for token in delta.logprobs))
        channel = self._deltas[0].WhichOneof("channel") or "text"
        setattr(merged, channel, "".join(getattr(delta, channel) for delta in self._deltas))
        self._deltas.clear()
        self._bytes = 0
        self._due_s = self._clock() + self._interval_s
        return pb.GenerateResponse(delta=merged)


async def _interrupted(
    responses: Responses, timeout_s: Callable[[], float | None]
) -> AsyncGenerator[pb.GenerateResponse | None, None]:
    """Yield the responses, and None whenever none arrived within the timeout."""
    async with aclosing(responses):
        waiting: asyncio.Task[pb.GenerateResponse] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(responses))
                done, _ = await asyncio.wait((waiting,), timeout=timeout_s())
                if not done:
                    yield None
                    continue
                arrived, waiting = waiting, None
                try:
                    response = arrived.result()
                except StopAsyncIteration:
                    return
                yield response
        finally:
            if waiting:
                waiting.cancel()
                await asyncio.wait((waiting,))
