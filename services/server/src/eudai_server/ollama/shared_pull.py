"""Shares one transfer, such as a download, between all callers who ask for it by the same key."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from eudai_server.core.models import Transfer

Start = Callable[[], AsyncGenerator[Transfer, None]]


class _Shared:
    """One transfer and its progress."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.followers = 0
        self.detached = False
        # Whether its last follower has left. The transfer may still be closing its connection.
        self.is_given_up = False
        self.latest: Transfer | None = None
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake all followers that wait for a change."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class SharedPulls:
    """The running transfers."""

    def __init__(self) -> None:
        """Start without transfers."""
        self._running: dict[str, _Shared] = {}

    async def follow(
        self, key: str, start: Start, *, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """Yield progress to the end. Raises the transfer's errors.

        The transfer is cancelled when its last follower leaves, unless one has detached it.
        """
        shared = self._running.get(key)
        while shared is not None and shared.is_given_up:
            await asyncio.wait((shared.task,))
            shared = self._running.get(key)
        if shared is None:
            shared = self._running[key] = _Shared()
            shared.task = asyncio.create_task(_run(shared, start), name=f"transfer {key}")
            shared.task.add_done_callback(lambda task: self._end(key, shared, task))
        shared.followers += 1
        shared.detached = shared.detached or detach
        seen = None
        try:
            while True:
                changed = shared.changed
                if shared.latest is not seen and shared.latest is not None:
                    seen = shared.latest
                    yield seen
                elif shared.task.done():
                    shared.task.result()
                    return
                else:
                    await changed.wait()
        finally:
            shared.followers -= 1
            if not shared.followers and not shared.detached:
                shared.is_given_up = True
                shared.task.cancel()
                await asyncio.wait((shared.task,))

    async def close(self) -> None:
        """Cancel all transfers."""
        tasks = [shared.task for shared in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, key: str, shared: _Shared, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even if nobody follows
        shared.notify()


async def _run(shared: _Shared, start: Start) -> None:
    async with aclosing(start()) as transfers:
        async for transfer in transfers:
            shared.latest = transfer
            shared.notify()
