"""Callers who pull one model share a transfer, unless it is being cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from eudai_server.core.model_name import model_name_from
from eudai_server.core.models import Transfer
from eudai_server.ollama.shared_pull import SharedPulls

MODEL = model_name_from("gemma3:270m")


async def test_a_caller_who_arrives_during_a_cancellation_begins_a_new_transfer() -> None:
    pulls = SharedPulls()
    closing, closed = asyncio.Event(), asyncio.Event()

    async def abandoned() -> AsyncGenerator[Transfer, None]:
        try:
            yield Transfer("old")
            await asyncio.sleep(60)
        finally:
            closing.set()
            await closed.wait()

    async def whole() -> AsyncGenerator[Transfer, None]:
        assert closed.is_set()  # two at once would interfere in Ollama
        yield Transfer("new")

    async def leave() -> None:
        async with aclosing(pulls.follow(MODEL, abandoned, detach=False)) as transfers:
            await anext(transfers)

    leaving = asyncio.create_task(leave())
    await closing.wait()
    following = asyncio.create_task(_statuses(pulls.follow(MODEL, whole, detach=False)))
    await asyncio.sleep(0.05)  # meanwhile the new one does not begin
    closed.set()

    assert await following == ["new"]
    await leaving


async def _statuses(transfers: AsyncGenerator[Transfer, None]) -> list[str]:
    return [transfer.status async for transfer in transfers]
