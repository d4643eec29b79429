"""Decides when the events of a generation are sent: heartbeats, and deltas merged per interval.

Neither delays any other event, and neither stops reading from the backend.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing

from eudai_server.core.events import Batches, Delta, Event

# The limit of a gathered delta; a larger one is sent before its interval has passed.
GATHERED_CHARS_MAX = 64 << 10
# A token's log probabilities count as this many characters, and so does each alternative.
LOGPROB_CHARS = 32


class Pacer:
    """Holds the deltas of one generation until they are due, and knows when a heartbeat is."""

    def __init__(self, flush_interval_s: float, heartbeat_s: float) -> None:
        """An interval of 0 turns the function off."""
        self._flush_interval_s = flush_interval_s
        self._heartbeat_s = heartbeat_s
        self._clock = asyncio.get_running_loop().time
        self._flush_due_s = self._sent_s = self._clock()
        self._held: list[Delta] = []
        self._held_chars = 0

    def timeout_s(self) -> float | None:
        """Seconds until something is due; None if nothing will be."""
        due_s = [self._flush_due_s] if self._held else []
        if self._heartbeat_s:
            due_s.append(self._sent_s + self._heartbeat_s)
        return max(min(due_s) - self._clock(), 0) if due_s else None

    def released_by(self, event: Event) -> Iterator[Event]:
        """What to send now that an event has arrived, in order.

        A delta after a longer silence, such as the first one, is sent at once.
        """
        if not isinstance(event, Delta) or not self._flush_interval_s:
            yield from self.take_held()
            yield event
            return
        if self._held and self._held[0].channel is not event.channel:
            yield from self.take_held()
        if not self._held and self._clock() >= self._flush_due_s:
            self._flush_due_s = self._clock() + self._flush_interval_s
            yield event
            return
        self._held.append(event)
        self._held_chars += _chars_of(event)
        if self._held_chars >= GATHERED_CHARS_MAX:
            yield from self.take_held()

    def take_due(self) -> Iterator[Event]:
        """The held deltas as one event, if their interval has passed."""
        if self._clock() >= self._flush_due_s:
            yield from self.take_held()

    def take_held(self) -> Iterator[Event]:
        """The held deltas as one event. The next interval starts."""
        if self._held:
            logprobs = tuple(token for delta in self._held for token in delta.logprobs)
            text = "".join(delta.text for delta in self._held)
            merged = Delta(self._held[0].channel, text, logprobs)
            self._held.clear()
            self._held_chars = 0
            self._flush_due_s = self._clock() + self._flush_interval_s
            yield merged

    @property
    def is_heartbeat_due(self) -> bool:
        """Whether nothing was sent for the interval of heartbeats."""
        return bool(self._heartbeat_s) and self._clock() >= self._sent_s + self._heartbeat_s

    def restart_heartbeat(self) -> None:
        """Record that something was sent."""
        self._sent_s = self._clock()


async def interrupted(batches: Batches, timeout_s: Callable[[], float | None]) -> Batches:
    """Yield the batches, and an empty one whenever none arrived within the timeout."""
    async with aclosing(batches):
        waiting: asyncio.Task[Sequence[Event]] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(batches))
                done, _ = await asyncio.wait((waiting,), timeout=timeout_s())
                if not done:
                    yield ()
                    continue
                arrived, waiting = waiting, None
                try:
                    batch = arrived.result()
                except StopAsyncIteration:
                    return
                yield batch
        finally:
            if waiting:
                waiting.cancel()
                await asyncio.wait((waiting,))


def _chars_of(delta: Delta) -> int:
    tokens = sum(1 + len(token.top) for token in delta.logprobs)
    return len(delta.text) + tokens * LOGPROB_CHARS
