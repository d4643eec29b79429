"""Calls that are repeated in the background while a test does something else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def under_load(*calls: Callable[[], Awaitable[bool]]) -> AsyncIterator[Counter[bool]]:
    """Repeat each call until the end of the block, and count what they return.

    Fails if one of them raises.
    """
    outcomes: Counter[bool] = Counter()

    async def repeat(call: Callable[[], Awaitable[bool]]) -> None:
        while True:
            outcomes[await call()] += 1

    tasks = [asyncio.create_task(repeat(call)) for call in calls]
    try:
        yield outcomes
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended
