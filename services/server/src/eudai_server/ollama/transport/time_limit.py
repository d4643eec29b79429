"""Limits any wait for Ollama. The reads of an answer have their own limit (`Answer.read`)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eudai_server.core.errors import Reason, ServiceError


@asynccontextmanager
async def time_limit(limit_s: float | None, message: str) -> AsyncIterator[asyncio.Timeout]:
    """Limit the block to `limit_s` seconds.

    Raises BACKEND_STALLED with `message` after that. The block may reschedule the timeout; None
    sets no limit until it does.
    """
    try:
        async with asyncio.timeout(limit_s) as timeout:
            yield timeout
    except TimeoutError:
        raise ServiceError(Reason.BACKEND_STALLED, message) from None
