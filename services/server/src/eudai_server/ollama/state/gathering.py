"""Lets the output of generations gather while the process is busy, so that it costs less.

A message that carries several tokens costs hardly more than one that carries a single token. If the
process has time to spare, nothing gathers. The first output and the end of an answer never do.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Above this share of one CPU, waiting times grow faster than the load.
BUSY_SHARE = 0.7
# Well below, so that the pause, which itself lowers the share, does not end at once.
IDLE_SHARE = 0.4
SAMPLE_S = 0.02
# A reader does not notice a pause that is shorter than a frame of a display, or two.
PAUSE_MIN_S = 0.002
PAUSE_MAX_S = 0.02
GROWTH = 1.5
DECAY = 0.7
# An answer may pause for this share of the time since its first output, so that short answers,
# which may be what keeps the process busy, are hardly held.
AGE_SHARE = 0.25
# Each caller who waits for a first output needs some of the time of the process at once. Up to
# the first number of them, the process has enough.
NEWCOMERS_UNNOTICED = 3
PAUSE_PER_NEWCOMER_S = 0.0005


class Gathering:
    """Measures how busy the process is, and decides how long the output of a stream gathers."""

    def __init__(
        self,
        wall_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        """Tests pass clocks of their own."""
        self.wall_s = wall_s
        self._cpu_s = cpu_s
        self._sampled_wall_s = wall_s()
        self._sampled_cpu_s = cpu_s()
        self._pause_s = 0.0
        # Streams without output.
        self.newcomers = 0

    @contextmanager
    def stream(self) -> Iterator["Stream"]:
        """One generation, from its request to its end."""
        self.newcomers += 1
        stream = Stream(self)
        try:
            yield stream
        finally:
            if not stream.has_output:
                self.newcomers -= 1

    def pause_s(self, now_s: float) -> float:
        """How long a stream may gather now, whatever its age."""
        if now_s - self._sampled_wall_s >= SAMPLE_S:
            self._sample(now_s)
        if not self._pause_s or self.newcomers <= NEWCOMERS_UNNOTICED:
            return self._pause_s
        return max(self._pause_s, min(PAUSE_MAX_S, self.newcomers * PAUSE_PER_NEWCOMER_S))

    def _sample(self, now_s: float) -> None:
        cpu_s = self._cpu_s()
        elapsed_s = now_s - self._sampled_wall_s
        share = (cpu_s - self._sampled_cpu_s) / elapsed_s
        self._sampled_wall_s, self._sampled_cpu_s = now_s, cpu_s
        if share > BUSY_SHARE:
            self._pause_s = min(PAUSE_MAX_S, max(self._pause_s * GROWTH, PAUSE_MIN_S))
        elif share < IDLE_SHARE:
            self._pause_s *= DECAY ** (elapsed_s / SAMPLE_S)
            if self._pause_s < PAUSE_MIN_S:
                self._pause_s = 0.0


class Stream:
    """One generation."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._first_output_s: float | None = None

    @property
    def has_output(self) -> bool:
        """Whether output has been sent."""
        return self._first_output_s is not None

    def observe_output(self) -> None:
        """Record that output has been sent."""
        if self._first_output_s is None:
            self._first_output_s = self._gathering.wall_s()
            self._gathering.newcomers -= 1

    def pause_s(self) -> float:
        """How long to gather before the next read; 0 before the first output."""
        if self._first_output_s is None:
            return 0.0
        now_s = self._gathering.wall_s()
        pause_s = self._gathering.pause_s(now_s)
        return min(pause_s, AGE_SHARE * (now_s - self._first_output_s)) if pause_s else 0.0
