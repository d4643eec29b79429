"""A bounded queue in front of one model that serves its callers in turn.

It does no I/O and reads no clock. Requests of one caller are served in order of arrival, and
callers take turns. If the queue is full, a caller with fewer places replaces the last place of the
caller with the most, so that no caller can lock out the others by flooding the queue.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

# The weight of the newest sample in a moving mean.
NEWEST_SHARE = 0.2


class QueueFullError(Exception):
    """The queue has no free place."""


class Mean:
    """A moving mean; None until there is a sample."""

    def __init__(self) -> None:
        """Start without samples."""
        self.value: float | None = None

    def add(self, sample: float) -> None:
        """Add a sample."""
        self.value = (
            sample if self.value is None else self.value + NEWEST_SHARE * (sample - self.value)
        )


class Ticket:
    """One request's place in the queue."""

    def __init__(self, caller: str) -> None:
        """`caller` identifies who waits, as in `Generation.caller`."""
        self.caller = caller
        # Set whenever the place may have changed.
        self.moved = asyncio.Event()
        # True when a caller with fewer places has replaced this one.
        self.evicted = False


class FairQueue:
    """The requests that run on one model, and those that wait for it."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        """`max_running` requests may have a slot at once; `max_queued` may wait for one."""
        self.max_running = max_running
        self.max_queued = max_queued
        self.running = 0
        # The number of generations that were abandoned while the backend evaluated their prompts,
        # since the model's last output. Each may still occupy the model.
        self.abandoned = 0
        # In seconds, loads excluded: how long a slot is held, and how long the first output takes.
        self.held_s = Mean()
        self.first_output_s = Mean()
        # Tickets by caller; the order of the callers is the order of their turns.
        self._waiting: dict[str, deque[Ticket]] = {}

    @property
    def queued(self) -> int:
        """The number of waiting requests."""
        return sum(map(len, self._waiting.values()))

    @property
    def has_slot(self) -> bool:
        """Whether one more request may run.

        One abandoned generation per slot is tolerated: it ends before the next prompt is evaluated.
        """
        return self.running + max(self.abandoned - self.max_running, 0) < self.max_running

    @property
    def is_blank(self) -> bool:
        """Whether the queue has no state that is worth keeping."""
        return not (self.running or self._waiting or self.abandoned or self.held_s.value)

    @contextmanager
    def place(self, caller: str) -> Iterator[Ticket]:
        """Hold a place for the block, or until `slot` takes it. Raises QueueFullError."""
        ticket = self._enter(caller)
        try:
            yield ticket
        finally:
            self._leave(ticket)

    @contextmanager
    def slot(self, ticket: Ticket) -> Iterator[None]:
        """Run as the request that is next: give the place up and hold a slot for the block.

        The caller's other requests then wait until every other caller had a turn.
        """
        self._begin(ticket)
        try:
            yield
        finally:
            self.running -= 1
            self.notify()

    def is_next(self, ticket: Ticket) -> bool:
        """Whether this ticket may run now."""
        return self.has_slot and ticket is next(iter(self._waiting.values()), (None,))[0]

    def ahead(self, ticket: Ticket) -> int:
        """How many requests run, or will run before this one."""
        place = self._waiting[ticket.caller].index(ticket)
        ahead, extra = self.running + place, 1
        for caller, tickets in self._waiting.items():
            if caller == ticket.caller:
                extra = 0  # later callers have had one turn less by then
            else:
                ahead += min(len(tickets), place + extra)
        return ahead

    def expected_s(self, ticket: Ticket) -> float | None:
        """Seconds until this ticket's first output, from recent requests; None while unknown.

        The estimate is lenient: it assumes that half of what runs is about to end.
        """
        if self.held_s.value is None or self.first_output_s.value is None:
            return None
        waves = (self.ahead(ticket) - self.running / 2) / self.max_running
        return waves * self.held_s.value + self.first_output_s.value

    @property
    def expected_place_s(self) -> float | None:
        """Seconds until a place in the full queue becomes free; None while unknown."""
        return None if self.held_s.value is None else self.held_s.value / self.max_running

    def notify(self) -> None:
        """Let every waiting request check its place again."""
        for ticket in chain.from_iterable(self._waiting.values()):
            ticket.moved.set()

    def _enter(self, caller: str) -> Ticket:
        runs_at_once = self.has_slot and not self._waiting
        if self.queued >= self.max_queued and not runs_at_once:
            longest = max(self._waiting.values(), key=len, default=deque[Ticket]())
            if len(self._waiting.get(caller, ())) + 1 >= len(longest):
                raise QueueFullError
            self._evict(longest[-1])
        ticket = Ticket(caller)
        self._waiting.setdefault(caller, deque()).append(ticket)
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        tickets = self._waiting.get(ticket.caller)
        if tickets and ticket in tickets:
            tickets.remove(ticket)
            if not tickets:
                del self._waiting[ticket.caller]
            self.notify()

    def _begin(self, ticket: Ticket) -> None:
        self.running += 1
        tickets = self._waiting.pop(ticket.caller)
        tickets.remove(ticket)
        if tickets:
            self._waiting[ticket.caller] = tickets
        self.notify()  # several slots may be free

    def _evict(self, ticket: Ticket) -> None:
        ticket.evicted = True
        self._leave(ticket)
        ticket.moved.set()
