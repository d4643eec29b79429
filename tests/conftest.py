"""Fixtures: a scripted Ollama, a real one with a fast model, and servers in front of them."""

import asyncio
import io
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from eudai.v1 import model_service_pb2_grpc as rpc
from eudai_server.ollama.state import probe
from eudai_server.rpc.transport.event_loop import EventLoop
from eudai_server.telemetry import JsonFormatter
from hypothesis import HealthCheck, settings
from scripted_model import Script, write_model
from scripted_model.creation import created
from scripted_ollama import ScriptedOllama, reply
from serving import CLEANUP_TIMEOUT_S, Server, config_for, serving

pytest_plugins = ["reliability_table", "ignored_parts"]

# No deadlines: a busy machine is not a failure of a codec.
settings.register_profile("eudai", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("eudai")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a real Ollama."""
    for item in items:
        if "real_url" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop that the server runs on."""
    return {"uvloop": EventLoop}


@pytest.fixture
async def ollama() -> AsyncIterator[ScriptedOllama]:
    """A scripted Ollama. The test must leave no connection to it."""
    scripted = ScriptedOllama()
    await scripted.start()
    yield scripted
    async with asyncio.timeout(CLEANUP_TIMEOUT_S):
        while scripted.open_connections:
            await asyncio.sleep(0.001)
    await scripted.stop()


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    """Everything that is logged, at every level, as the server formats it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root, own = logging.getLogger(), logging.getLogger("eudai_server")
    levels = root.level, own.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    own.setLevel(logging.DEBUG)
    yield written
    root.removeHandler(handler)
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers that start afterwards probe Ollama ten times a second."""
    monkeypatch.setattr(probe, "INTERVAL_S", 0.1)


@pytest.fixture
async def server(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server in front of the scripted Ollama, which it has found."""
    async with serving(config_for(ollama.url)) as running:
        await running.until("", "SERVING")
        yield running


@pytest.fixture
async def admin(ollama: ScriptedOllama) -> AsyncIterator[Any]:
    """A stub of ModelService with administration enabled, in front of the scripted Ollama."""
    ollama.scripts["/api/show"] = reply(
        200, {"capabilities": ["completion"], "model_info": {}, "details": {"family": "gemma3"}}
    )
    config = config_for(
        ollama.url,
        admin=True,
        registries=("registry.ollama.ai", "http://localhost:5005"),
        event_timeout_s=5.0,
    )
    async with serving(config) as server:
        await server.until("", "SERVING")
        yield rpc.ModelServiceStub(server.channel)


@pytest.fixture(scope="session")
def real_url() -> str:
    """The URL of the real Ollama that `make test` starts."""
    url = os.environ.get("OLLAMA_BASE_URL")
    assert url, (
        "OLLAMA_BASE_URL is not set; run the tests by `make test`, which starts a real Ollama"
    )
    return url


@pytest.fixture(scope="session")
def fast_model(real_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model of the real Ollama that answers any prompt with "n0 n1 … n99 n0 …" without end.

    It makes about a thousand tokens a second; `max_output_tokens` limits them.
    """
    path = tmp_path_factory.mktemp("fast") / "model.gguf"
    tokens = tuple(b"n%d " % number for number in range(100))
    write_model(path, {"count": Script(tokens=tokens, repeats=True)}, {})
    with created(real_url, f"eudai-fast-{os.getpid()}", path, template="{{ .Prompt }}") as name:
        yield name


@pytest.fixture
async def real_server(real_url: str) -> AsyncIterator[Server]:
    """A server in front of the real Ollama."""
    async with serving(config_for(real_url)) as running:
        await running.until("", "SERVING")
        yield running
