"""An event loop whose time is its own: it jumps to the next timer, so an hour takes as long as what happens in it."""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BEGIN_S = 1000.0


class Violation(BaseException):
    """An invariant that does not hold."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; where nothing is, it moves its clock to the next timer instead of waiting."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` is called after every round of the loop; it raises Violation."""
        self.now_s = BEGIN_S
        self._check = check
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Seconds, virtual."""
        return self.now_s

    def _run_once(self) -> None:
        """The loop's one step; it has no public name."""
        super()._run_once()  # type: ignore[misc]
        self._check()


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Violation("everything waits, and nothing is to come")
        self._loop.now_s += max(timeout, 0)
        return super().select(0)


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """Let `time.monotonic` tell the loop's time."""
    real = time.monotonic, time.monotonic_ns
    time.monotonic, time.monotonic_ns = loop.time, lambda: int(loop.time() * 1e9)
    try:
        yield
    finally:
        time.monotonic, time.monotonic_ns = real
