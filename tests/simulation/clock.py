"""An event loop with a virtual clock, which jumps to the next timer instead of waiting."""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BEGIN_S = 1000.0


class Violation(BaseException):
    """A broken invariant."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; if nothing is ready, its clock jumps to the next timer."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` is called after every iteration of the loop, and raises Violation."""
        self.now_s = BEGIN_S
        self._check = check
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """The virtual time in seconds."""
        return self.now_s

    def _run_once(self) -> None:
        """Run one iteration. asyncio has no public name for it."""
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
    """Make `time.monotonic` return the loop's time during the block."""
    real = time.monotonic, time.monotonic_ns
    time.monotonic, time.monotonic_ns = loop.time, lambda: int(loop.time() * 1e9)
    try:
        yield
    finally:
        time.monotonic, time.monotonic_ns = real
