"""Fixtures only: a scripted Ollama, a real one, and a server before either."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
from eudai_server.rpc.event_loop import EventLoop
from hypothesis import HealthCheck, settings
from scripted_ollama import ScriptedOllama
from serving import LEFTOVER_TIMEOUT_S, Server, config_for, serving

pytest_plugins = ["table"]

# A busy machine is no failure of a codec.
settings.register_profile("eudai", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("eudai")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the server runs on."""
    return {"uvloop": EventLoop}


@pytest.fixture
async def ollama() -> AsyncIterator[ScriptedOllama]:
    """A scripted Ollama; no connection to it is left afterwards."""
    scripted = ScriptedOllama()
    await scripted.start()
    yield scripted
    async with asyncio.timeout(LEFTOVER_TIMEOUT_S):
        while scripted.open_connections:
            await asyncio.sleep(0.01)
    await scripted.stop()


@pytest.fixture
async def server(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server before the scripted Ollama, which it has found."""
    async with serving(config_for(ollama.url)) as running:
        await running.until("", "SERVING")
        yield running


@pytest.fixture(scope="session")
def real_url() -> str:
    """The real Ollama that `make test` provides."""
    url = os.environ.get("OLLAMA_BASE_URL")
    assert url, (
        "OLLAMA_BASE_URL is not set; run the tests by `make test`, which starts a real Ollama"
    )
    return url


@pytest.fixture
async def real_server(real_url: str) -> AsyncIterator[Server]:
    """A server before the real Ollama."""
    async with serving(config_for(real_url)) as running:
        await running.until("", "SERVING")
        yield running
