"""Resources that callers share: a queue for each model, and connections to Ollama."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from eudai.v1.embedding_service_pb2 import EmbedRequest
from eudai.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from eudai_server.core.errors import NoConnectionLeftError, UnreachableError
from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.transport import client
from eudai_server.ollama.transport.client import Client
from eudai_server.ollama.wire.requests import Request
from refusal import Refusal, refusal
from scripted_ollama import Exchange, Script, ScriptedOllama, reply
from serving import Server, collect, config_for, serving, text_of

ALIAS = "alias:latest"
VARIANT = "variant:latest"


@pytest.fixture
async def narrow(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server that runs one request of a model and lets one wait.

    Its Ollama has gemma3:270m under another name too, and another model made from the same weights.
    """
    facts = ollama.models["gemma3:270m"]
    ollama.models[ALIAS] = dict(facts)
    ollama.models[VARIANT] = {**facts, "digest": "77" * 32, "weights": facts["digest"]}
    async with serving(config_for(ollama.url, max_running=1, max_queued=1)) as server:
        await server.until("", "SERVING")
        yield server


async def until(server: Server, *, running: int, queued: int) -> None:
    """Wait until so many requests run and wait, on all models."""
    admission = server.app.parts.admission
    async with asyncio.timeout(5):
        while admission.running != running or admission.queued != queued:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", [ALIAS, VARIANT, "GEMMA3:270M"])
async def test_models_that_share_a_runner_share_a_queue(
    narrow: Server, ollama: ScriptedOllama, name: str
) -> None:
    release = ollama.hold()
    first = asyncio.create_task(collect(narrow, prompt="1"))
    await until(narrow, running=1, queued=0)
    second = asyncio.create_task(collect(narrow, model=name, prompt="2"))
    await until(narrow, running=1, queued=1)
    refused = await refusal(narrow, prompt="3")
    release.set()
    answers = await asyncio.gather(first, second)

    assert refused.reason == "QUEUE_FULL"
    assert [text_of(answer) for answer in answers] == ["x", "x"]


async def test_an_unknown_model_gets_no_queue_and_no_prompt_reaches_ollama(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    refused = await asyncio.gather(
        *(refusal(narrow, model=f"none-{count}", prompt="secret") for count in range(20))
    )

    assert {each.reason for each in refused} == {"MODEL_NOT_FOUND"}
    assert ollama.sent_to("/api/generate") == []
    assert narrow.app.parts.admission.queued == 0


async def test_a_new_model_is_found_before_the_next_probe(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["new:latest"] = {"digest": "99" * 32, "capabilities": ["completion"]}

    assert text_of(await collect(narrow, model="new:latest", prompt="hi")) == "Hello world"


async def test_an_embedding_waits_for_its_turn_or_is_refused(
    narrow: Server, ollama: ScriptedOllama
) -> None:
    release = asyncio.Event()

    def embed(exchange: Exchange) -> Script:
        whole = reply(200, {"embeddings": [[1.0]], "prompt_eval_count": 1})
        return [release, *whole] if exchange.body.get("input") else whole

    ollama.scripts["/api/embed"] = embed
    stub = EmbeddingServiceStub(narrow.channel)

    async def one() -> int:
        request = EmbedRequest(model="gemma3:270m", inputs=["x"])
        return sum([len(part.embeddings) async for part in stub.Embed(request)])

    first = asyncio.create_task(one())
    await until(narrow, running=1, queued=0)
    second = asyncio.create_task(one())
    await until(narrow, running=1, queued=1)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await one()
    while not (sent := [one for one in ollama.sent_to("/api/embed") if one.body["input"]]):
        await asyncio.sleep(0.01)
    release.set()
    embedded = await asyncio.gather(first, second)

    assert len(sent) == 1
    assert Refusal(failure.value).reason == "QUEUE_FULL"
    assert sum(embedded) == 2


@pytest.mark.usefixtures("quick_probe")
async def test_calls_over_the_connection_limit_are_refused_and_health_stays(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = ollama.hold()
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "SERVING")
        await collect_one_token(server, ollama)
        monkeypatch.setattr(client, "CONNECTIONS_MAX", 1)
        held = asyncio.create_task(collect(server, prompt="1"))
        await until(server, running=1, queued=0)
        while len(ollama.sent_to("/api/generate")) < 2:
            await asyncio.sleep(0.01)
        refused = await refusal(server, prompt="2")
        await ollama.until_probed()
        health = await server.health("")
        release.set()
        await held

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert int(refused.trailers["grpc-retry-pushback-ms"]) > 0
    assert health == "SERVING"


async def collect_one_token(server: Server, ollama: ScriptedOllama) -> None:
    """Make the server load the model and learn its runner."""
    held = ollama.scripts.pop("/api/generate")
    await collect(server, prompt="hi")
    ollama.scripts["/api/generate"] = held


# ---- a lack of resources of this process is not an outage of Ollama


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no file or socket during the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    spare = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with suppress(OSError):
            while True:
                spare.append(socket.socket())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in spare:
            each.close()


TAGS = Request("GET", "/api/tags")


def watched(url: str) -> tuple[Endpoint, Readiness]:
    """An endpoint that was up at its last probe, and where it reports an outage."""
    readiness = Readiness()
    endpoint = Endpoint(Client(url), Catalog(), readiness)
    endpoint.mark(up=True)
    return endpoint, readiness


async def test_a_lack_of_file_descriptors_is_not_an_outage(ollama: ScriptedOllama) -> None:
    endpoint, readiness = watched(ollama.url)
    with no_more_files(), pytest.raises(NoConnectionLeftError):
        await endpoint.fetch(TAGS)
    after = await endpoint.fetch(TAGS)

    assert readiness.backend_up
    assert b"gemma3:270m" in after


async def test_a_connection_timeout_is_not_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as deaf, socket.socket() as queued:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        queued.connect(deaf.getsockname())  # takes the only place; the next one gets no answer
        endpoint, readiness = watched(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(UnreachableError):
            await endpoint.fetch(TAGS)

    assert readiness.backend_up


async def test_a_refused_connection_is_an_outage_at_once(ollama: ScriptedOllama) -> None:
    await ollama.stop()
    endpoint, readiness = watched(ollama.url)
    with pytest.raises(UnreachableError):
        await endpoint.fetch(TAGS)

    assert not readiness.backend_up
