"""A real Ollama whose cloud is enabled gets no prompt for a remote model from this server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from eudai_server.core.generation import Conversation, Generation, Input, Message, Prompt, Role
from eudai_server.core.model_name import model_name_from
from eudai_server.ollama.wire.requests import request_from
from own_ollama import OwnOllama
from refusal import refusal
from serving import config_for, serving

INPUTS: dict[str, Input] = {
    "prompt": Prompt("SECRET"),
    "conversation": Conversation((Message(Role.USER, "SECRET"),)),
}


@dataclass
class Cloud:
    """An Ollama whose model "mine" runs on another machine, and the connections to that machine."""

    url: str
    connections: list[object]


@pytest.fixture
async def cloud(real_url: str, tmp_path: Path) -> AsyncIterator[Cloud]:
    """An Ollama that may send prompts to a listener of this test, which plays the cloud."""
    connections: list[object] = []

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    host = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    ollama = OwnOllama(
        real_url,
        OLLAMA_NO_CLOUD="0",
        OLLAMA_REMOTES="127.0.0.1",
        OLLAMA_MODELS=str(tmp_path / "models"),
        HOME=str(tmp_path),
    )
    try:
        await ollama.start()
        async with httpx.AsyncClient(base_url=ollama.url, trust_env=False) as client:
            body = {"model": "mine", "from": "big", "remote_host": host, "stream": False}
            assert (await client.post("/api/create", json=body)).is_success
            assert (await client.get("/api/status")).json()["cloud"]["disabled"] is False
        yield Cloud(ollama.url, connections)
    finally:
        ollama.kill()
        listener.close()
        await listener.wait_closed()


@pytest.mark.parametrize("kind", INPUTS)
async def test_ollama_itself_refuses_our_requests_for_a_remote_model(
    cloud: Cloud, kind: str
) -> None:
    generation = Generation(id="", model=model_name_from("mine:latest"), input=INPUTS[kind])
    request = request_from(generation, can_think=False)
    body = request.body
    assert isinstance(body, bytes)
    async with httpx.AsyncClient(base_url=cloud.url, trust_env=False, timeout=30) as client:
        ours = await client.post(request.route, content=body)
        after_ours = len(cloud.connections)
        await client.post(request.route, content=body.replace(b"mine:latest:local", b"mine:latest"))

    assert ours.status_code == 404
    assert after_ours == 0
    # Without ":local" it is sent to the cloud, so the first half of this test can fail.
    assert len(cloud.connections) > 0


async def test_a_remote_model_is_refused(cloud: Cloud) -> None:
    async with serving(config_for(cloud.url)) as server:
        async with asyncio.timeout(30):
            while not server.app.parts.readiness.backend_up:
                await asyncio.sleep(0.02)
        failure = await refusal(server, model="mine", prompt="SECRET")

    assert failure.reason == "CLOUD_DISABLED"
    assert cloud.connections == []
