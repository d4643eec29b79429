"""Runs the server's own tasks, so that an exception in one is logged and does not end it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

RESTART_AFTER_S = 1.0

log = logging.getLogger(__name__)


async def run_again(run: Callable[[], Awaitable[None]], name: str) -> None:
    """Run a task for as long as the server runs; restart it if it raises."""
    while True:
        await run_once(run, name)
        await asyncio.sleep(RESTART_AFTER_S)


async def run_once(run: Callable[[], Awaitable[None]], name: str) -> None:
    """Run a task that nobody awaits; log what it raises."""
    try:
        await run()
    except Exception:
        log.exception("a background task failed", extra={"fields": {"task": name}})
