"""Shares one transfer, such as a download, between all callers who ask for it by the same key."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from eudai_server.core.models import Transfer

Begin = Callable[[], AsyncGenerator[Transfer, None]]


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

    def tell(self) -> None:
        """Wake all followers that wait for a change."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Sharing:
    """The running transfers."""

    def __init__(self) -> None:
        """Start without transfers."""
        self._under_way: dict[str, _Shared] = {}

    async def follow(
        self, key: str, begin: Begin, *, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """Yield progress to the end. Raises the transfer's errors.

        The transfer is cancelled when its last follower leaves, unless one has detached it.
        """
        shared = self._under_way.get(key)
        while shared is not None and shared.is_given_up:
            await asyncio.wait((shared.task,))
            shared = self._under_way.get(key)
        if shared is None:
            shared = self._under_way[key] = _Shared()
            shared.task = asyncio.create_task(_run(shared, begin), name=f"transfer {key}")
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
        tasks = [shared.task for shared in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, key: str, shared: _Shared, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even if nobody follows
        shared.tell()


async def _run(shared: _Shared, begin: Begin) -> None:
    async with aclosing(begin()) as transfers:
        async for transfer in transfers:
            shared.latest = transfer
            shared.tell()
