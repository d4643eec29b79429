"""A deadline that is set again for every read of a stream, at the cost of an assignment."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls a function if a time is reached before the deadline is set again or cleared.

    A timer that is created and cancelled for every read costs more than decoding a token. This
    class keeps its timer when the deadline moves to a later time, and starts a new one for the rest
    of the time when it fires too early.
    """

    def __init__(self, on_reached: Callable[[], None]) -> None:
        """No deadline is set yet. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._on_reached: Callable[[], None] | None = on_reached
        self._at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, timeout_s: float) -> None:
        """Set the deadline to `timeout_s` seconds from now."""
        self._at_s = self._loop.time() + timeout_s
        if self._timer and self._timer.when() > self._at_s:
            self._timer.cancel()
            self._timer = None
        if not self._timer:
            self._timer = self._loop.call_at(self._at_s, self._fire)

    def clear(self) -> None:
        """Forget the deadline. The timer stays for the next one."""
        self._at_s = None

    def close(self) -> None:
        """Stop the timer for ever, and forget the function, which may refer to this object."""
        self._at_s = None
        self._on_reached = None
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._at_s is None or self._on_reached is None:
            return
        if self._loop.time() < self._at_s:
            self._timer = self._loop.call_at(self._at_s, self._fire)
        else:
            self._at_s = None
            self._on_reached()
