"""Those who want one model go in; who is next comes out: a bounded queue that goes round between callers. No I/O, no clock.

A caller is served in order of arrival; callers take turns. Where the queue is full, a caller with less of it than
another takes the other's last place, so that nobody is locked out by somebody's flood.
"""

import asyncio
from collections import deque
from itertools import chain

# How much the newest of a series of times counts.
NEWEST_SHARE = 0.2


class Mean:
    """A moving mean; None until there is a sample."""

    def __init__(self) -> None:
        """No sample yet."""
        self.value: float | None = None

    def add(self, sample: float) -> None:
        """One more sample."""
        self.value = (
            sample if self.value is None else self.value + NEWEST_SHARE * (sample - self.value)
        )


class Turn:
    """A place in the queue."""

    def __init__(self, caller: str) -> None:
        """`caller` as in Generation."""
        self.caller = caller
        # Set whenever the place may have changed.
        self.moved = asyncio.Event()
        # Somebody with less of the queue took the place.
        self.evicted = False


class Line:
    """Those who run and those who wait for one model."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        """Empty."""
        self.max_running = max_running
        self.max_queued = max_queued
        self.running = 0
        # Runs that were given up while the backend evaluated their prompts, with no sign of life from it since.
        self.leftovers = 0
        # Seconds, loads aside: how long a slot is held, and how long until the first output.
        self.held_s = Mean()
        self.first_output_s = Mean()
        # In the order in which callers take turns.
        self._waiting: dict[str, deque[Turn]] = {}

    @property
    def queued(self) -> int:
        """Those who wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def has_slot(self) -> bool:
        """Whether one more may run. One leftover a slot is no harm: what it leaves running ends before what comes next begins."""
        return self.running + max(self.leftovers - self.max_running, 0) < self.max_running

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to remember."""
        return (
            not (self.running or self._waiting or self.leftovers)
            and self.first_output_s.value is None
        )

    def enter(self, caller: str) -> Turn | None:
        """Take the last place; None where there is none to be had."""
        if self.queued >= self.max_queued:
            longest = max(self._waiting.values(), key=len, default=deque[Turn]())
            if len(self._waiting.get(caller, ())) + 1 >= len(longest):
                return None
            self._evict(longest[-1])
        turn = Turn(caller)
        self._waiting.setdefault(caller, deque()).append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a place up, if it is still held."""
        turns = self._waiting.get(turn.caller)
        if turns and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[turn.caller]
            self.tell()

    def begin(self, turn: Turn | None = None) -> None:
        """Take a slot, as the one who is next or without having waited. The caller's others wait until every other had a turn."""
        self.running += 1
        if turn:
            turns = self._waiting.pop(turn.caller)
            turns.remove(turn)
            if turns:
                self._waiting[turn.caller] = turns
            self.tell()  # with several slots free, the next one's turn has come too

    def end(self) -> None:
        """Free a slot."""
        self.running -= 1
        self.tell()

    def is_next(self, turn: Turn) -> bool:
        """Whether it is that one's turn."""
        return self.has_slot and turn is next(iter(self._waiting.values()), (None,))[0]

    def ahead(self, turn: Turn) -> int:
        """How many run or come before."""
        place = self._waiting[turn.caller].index(turn)
        ahead, extra = self.running + place, 1
        for caller, turns in self._waiting.items():
            if caller == turn.caller:
                extra = 0  # whoever comes later in the round has had one turn fewer by then
            else:
                ahead += min(len(turns), place + extra)
        return ahead

    def expected_s(self, turn: Turn) -> float | None:
        """Seconds until its first output, as things have gone; None while too little is known.

        A lenient guess: half of those who run are done soon.
        """
        if self.held_s.value is None or self.first_output_s.value is None:
            return None
        waves = (self.ahead(turn) - self.running / 2) / self.max_running
        return waves * self.held_s.value + self.first_output_s.value

    def tell(self) -> None:
        """Let everyone who waits look again."""
        for turn in chain.from_iterable(self._waiting.values()):
            turn.moved.set()

    def _evict(self, turn: Turn) -> None:
        turn.evicted = True
        self.leave(turn)
        turn.moved.set()
