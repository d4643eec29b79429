"""What runs in the background of a test, such as repeated calls, and ends with it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_background(*steps: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines that do not end by themselves, until the end of the block.

    Fails if one of them raises. All tests share one event loop, so what is left would disturb the
    tests that follow.
    """
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended


@asynccontextmanager
async def under_load(*calls: Callable[[], Awaitable[bool]]) -> AsyncIterator[Counter[bool]]:
    """Repeat each call until the end of the block, and count what they return.

    Fails if one of them raises.
    """
    outcomes: Counter[bool] = Counter()

    async def repeat(call: Callable[[], Awaitable[bool]]) -> None:
        while True:
            outcomes[await call()] += 1

    async with in_background(*(repeat(call) for call in calls)):
        yield outcomes
