"""Every client can do what scenarios.toml lists, on the same server."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from contract_server import ContractServer, contract_server
from envoy_edge import Edge, envoy_edge
from eudai.v1 import embedding_service_pb2, generation_service_pb2 as pb, model_service_pb2
from interop.conftest import SCENARIOS
from interop.driver import Driver, Report
from png import png
from reasons import CASES, refusing
from relay import relaying
from scripted_model import Script, write_model, write_projector
from scripted_model.creation import created
from scripted_model.dialects import DIALECTS
from scripted_ollama import (
    HEADERS_STREAM,
    ScriptedOllama,
    chunk,
    error,
    line,
    stream,
    words,
)
from server_edge import server_edge
from serving import Server, config_for, kinds, serving, text_of

# Two test runs may use one Ollama.
MODEL = f"eudai-interop-{os.getpid()}:latest"
EMBEDDING_MODEL = "all-minilm"
SCRIPTS = {
    "hello": Script("Hello from the scripted model."),
    "think": Script("<think>They greet me.</think>Good morning."),
    "call": Script(
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    ),
    "result": Script("It is sunny there."),
}
TOOL = {
    "name": "weather",
    "parametersSchema": '{"type": "object", "properties": {"city": {"type": "string"}}}',
}
SCRIPTED = {"model": "gemma3:270m", "prompt": "hi"}


@pytest.fixture(scope="module")
def models(real_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The scripted model in the real Ollama: it reads images, calls tools and reasons."""
    folder = tmp_path_factory.mktemp("interop")
    write_model(folder / "model.gguf", SCRIPTS, {})
    write_projector(folder / "projector.gguf")
    files = folder / "model.gguf", folder / "projector.gguf"
    with created(real_url, MODEL, *files, **DIALECTS["template"].options):
        yield


@pytest.fixture
async def address(models: None, real_server: Server) -> str:  # noqa: ARG001 - models are loaded
    """A server in front of the real Ollama with the scripted model."""
    return real_server.address


def play(script: str, **message: Any) -> dict[str, Any]:
    """A message of the user that makes the scripted model write a script."""
    return {"role": "ROLE_USER", "parts": [{"text": f"<|play:{script}|>"}], **message}


def asking(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A request with a conversation."""
    return {"model": MODEL, "conversation": {"messages": list(messages)}, **fields}


def test_each_scenario_has_a_test_in_this_order() -> None:
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]

    assert [name.replace("_", "-") for name in tests[1:]] == list(SCENARIOS)


async def test_stream(client: Driver, address: str) -> None:
    report = await client.call("stream", address, {"model": MODEL, "prompt": "<|play:hello|>"})

    events = report.events
    assert (report.code, text_of(events)) == ("OK", SCRIPTS["hello"].text)
    assert kinds(events) == ["started", *["delta"] * (len(events) - 2), "finished"]
    assert events[0].started.model == MODEL
    assert events[-1].finished.reason == pb.FINISH_REASON_STOP
    assert events[-1].finished.usage.output_tokens > 3


async def test_once(client: Driver, address: str) -> None:
    report = await client.call(
        "once",
        address,
        {"request": {"model": MODEL, "prompt": "<|play:hello|>"}},
        method="eudai.v1.GenerationService/GenerateOnce",
    )

    (answer,) = report.parsed(pb.GenerateOnceResponse)
    assert answer.generation.message.parts[0].text == SCRIPTS["hello"].text
    assert answer.generation.finished.reason == pb.FINISH_REASON_STOP


async def test_conversation(client: Driver, address: str) -> None:
    earlier = [
        {"role": "ROLE_SYSTEM", "parts": [{"text": "Be kind."}]},
        {"role": "ROLE_USER", "parts": [{"text": "Hello"}]},
        {"role": "ROLE_ASSISTANT", "parts": [{"reasoning": "Greet."}, {"text": "Hello."}]},
    ]
    report = await client.call("conversation", address, asking(*earlier, play("think")))

    reasoning = "".join(event.delta.reasoning for event in report.events)
    assert (reasoning, text_of(report.events)) == ("They greet me.", "Good morning.")
    assert report.events[-1].finished.usage.input_tokens > 10


async def test_tools(client: Driver, address: str) -> None:
    question = play("call")
    first = await client.call("tools", address, asking(question, tools=[TOOL]))
    assert first.code == "OK", first.error
    (call,) = [event.tool_call for event in first.events if event.HasField("tool_call")]
    made = {"id": call.id, "name": call.name, "argumentsJson": call.arguments_json}
    answer = {"role": "ROLE_ASSISTANT", "toolCalls": [made]}
    result = {"role": "ROLE_TOOL", "toolCallId": call.id, "parts": [{"text": "<|play:result|>"}]}
    second = await client.call("tools", address, asking(question, answer, result, tools=[TOOL]))

    assert (call.name, call.arguments_json) == ("weather", '{"city":"Paris"}')
    assert first.events[-1].finished.reason == pb.FINISH_REASON_TOOL_CALLS
    assert text_of(second.events) == SCRIPTS["result"].text


async def leaves(
    client: Driver,
    server: Server,
    ollama: ScriptedOllama,
    scenario: str,
    events: dict[str, Any] | None = None,
    **plan: Any,
) -> Report:
    """A call that the client ends; the model has stopped afterwards."""
    request = {**SCRIPTED, "events": events or {}}
    report = await client.call(scenario, server.address, request, **plan)
    (exchange,) = ollama.sent_to("/api/generate")
    async with asyncio.timeout(20):
        await exchange.closed.wait()
    await server.until_admitted(running=0, queued=0)
    return report


async def test_cancel_mid_stream(client: Driver, server: Server, ollama: ScriptedOllama) -> None:
    ollama.hold()
    report = await leaves(client, server, ollama, "cancel-mid-stream", leave_after=2)

    assert report.left
    assert kinds(report.events) == ["started", "delta"]


async def test_cancel_before_the_first_token(
    client: Driver, server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, asyncio.Event()]
    report = await leaves(
        client,
        server,
        ollama,
        "cancel-before-the-first-token",
        # The server sends heartbeats only after it has sent the request to Ollama.
        events={"heartbeatInterval": "0.1s"},
        leave_after=4,
    )

    assert report.left
    assert kinds(report.events) == ["progress"] * 4


async def test_deadline(client: Driver, server: Server, ollama: ScriptedOllama) -> None:
    ollama.hold()
    report = await leaves(client, server, ollama, "deadline", deadline_s=1.5)

    assert report.code == "DEADLINE_EXCEEDED"
    assert text_of(report.events) == "x"


@pytest.mark.parametrize("reason", CASES)
async def test_reasons(client: Driver, reason: str, real_url: str, ollama: ScriptedOllama) -> None:
    case = CASES[reason]
    async with refusing(case, real_url, ollama) as server:
        report = await client.call(
            "reasons",
            server.address,
            case.request,
            method=f"eudai.v1.{case.method}",
            deadline_s=case.deadline_s,
        )

    assert report.reason == reason
    assert report.error["message"]
    if reason == "INVALID_REQUEST":
        fields = [violation["field"] for violation in report.error["violations"]]
        assert fields == ["model", "conversation.messages", "sampling.temperature"]
    if reason == "QUEUE_FULL":
        assert report.error["retry_after_s"] > 0
    if reason == "CLOUD_DISABLED":
        assert report.error["metadata"] == {"model": "gpt-oss:120b-cloud"}
    if reason == "BACKEND_FAILURE":
        assert report.error["output_sent"]
        assert report.error["generation_id"] == report.events[0].started.generation_id


async def test_retry(client: Driver, server: Server, ollama: ScriptedOllama) -> None:
    busy = error(503, "server busy, please try again.  maximum pending requests exceeded")
    answers = [busy, busy, words("Hello")]
    ollama.scripts["/api/generate"] = lambda _: answers.pop(0)
    report = await client.call("retry", server.address, SCRIPTED)

    assert (report.code, text_of(report.events)) == ("OK", "Hello")
    assert answers == []


async def test_embed(client: Driver, address: str) -> None:
    texts = ["a cat", "a kitten", "a treaty on tax law"]
    report = await client.call(
        "embed",
        address,
        {"model": EMBEDDING_MODEL, "inputs": texts},
        method="eudai.v1.EmbeddingService/Embed",
    )

    vectors = [
        list(embedding.values)
        for response in report.parsed(embedding_service_pb2.EmbedResponse)
        for embedding in response.embeddings
    ]
    assert [len(vector) for vector in vectors] == [384] * 3
    near, far = (
        sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:]
    )
    assert near > far


async def test_pull_progress(client: Driver, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/pull"] = stream(
        line(status="pulling manifest"),
        line(status="pulling aaaa", digest="sha256:a", total=100, completed=40),
        line(status="pulling aaaa", digest="sha256:a", total=100, completed=100),
        line(status="success"),
    )
    async with serving(config_for(ollama.url, admin=True)) as server:
        await server.until("", "SERVING")
        report = await client.call(
            "pull-progress",
            server.address,
            {"model": "gemma3:270m"},
            method="eudai.v1.ModelService/PullModel",
        )

    *progress, last = report.parsed(model_service_pb2.PullModelResponse)
    counts = [(one.progress.completed_bytes, one.progress.total_bytes) for one in progress]
    # The server merges progress that arrives quickly.
    assert counts[-1] == (100, 100)
    assert last.completed.name == "gemma3:270m"


async def test_health(client: Driver, address: str) -> None:
    health = "grpc.health.v1.Health/Check"
    ready = await client.call("health", address, {"service": f"model/{MODEL}"}, method=health)
    unknown = await client.call("health", address, {"service": "no.such.Name"}, method=health)

    assert ready.responses == [{"status": "SERVING"}]
    assert unknown.code == "NOT_FOUND"


@pytest.fixture(scope="module", params=["server", "envoy"])
async def edge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Edge]:
    """What ends TLS and checks credentials: the server itself, or an Envoy in front of it."""
    ollama = ScriptedOllama()
    await ollama.start()
    folder = tmp_path_factory.mktemp("edge")
    try:
        if request.param == "server":
            async with server_edge(folder, ollama.url) as edge:
                yield edge
            return
        async with serving(config_for(ollama.url)) as server:
            await server.until("", "SERVING")
            with envoy_edge(folder, server.address) as edge:
                yield edge
    finally:
        await ollama.stop()


async def test_tls(client: Driver, edge: Edge) -> None:
    report = await client.call("tls", edge.tls, SCRIPTED, ca_file=edge.ca_file)
    refused = await client.call("tls", edge.tls, SCRIPTED, ca_file=edge.other_ca_file, deadline_s=5)

    assert (report.code, text_of(report.events)) == ("OK", "Hello world")
    assert refused.code == "UNAVAILABLE"


async def test_mutual_tls(client: Driver, edge: Edge) -> None:
    own = {"ca_file": edge.ca_file, "cert_file": edge.cert_file, "key_file": edge.key_file}
    report = await client.call("mutual-tls", edge.mutual_tls, SCRIPTED, **own)
    refused = await client.call(
        "mutual-tls", edge.mutual_tls, SCRIPTED, ca_file=edge.ca_file, deadline_s=5
    )

    assert (report.code, text_of(report.events)) == ("OK", "Hello world")
    assert refused.code == "UNAVAILABLE"


async def test_token(client: Driver, edge: Edge) -> None:
    trusted = {"ca_file": edge.ca_file}
    report = await client.call("token", edge.token, SCRIPTED, token_file=edge.token_file, **trusted)
    refused = await client.call("token", edge.token, SCRIPTED, **trusted)

    assert (report.code, text_of(report.events)) == ("OK", "Hello world")
    assert refused.code == "UNAUTHENTICATED"


async def test_image(client: Driver, address: str) -> None:
    picture = png(2300, compression=0)
    assert len(picture) > 5_000_000
    media = {"mimeType": "image/png", "data": base64.b64encode(picture).decode()}
    parts = [{"text": "<|play:hello|>"}, {"media": media}]
    report = await client.call("image", address, asking(play("hello", parts=parts)))

    assert (report.code, text_of(report.events)) == ("OK", SCRIPTS["hello"].text)
    assert report.events[-1].finished.usage.input_tokens > 10


class NewerServer(ContractServer):
    """Sends an event of a kind that this version of the contract does not have."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        """Field 1000 is the new event."""
        yield self.started(request, generation_id)
        yield pb.GenerateResponse.FromString(b"\xc2\x3e\x03new")
        yield self.delta("Once")
        yield self.finished(request)


async def test_unknown_event(client: Driver) -> None:
    with contract_server(NewerServer()) as address:
        report = await client.call("unknown-event", address, {"model": "alpha", "prompt": "hi"})

    assert report.code == "OK"
    assert kinds(report.events) == ["started", "", "delta", "finished"]


async def test_server_gone(client: Driver, server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [
        HEADERS_STREAM,
        chunk(line(response="so far", done=False)),
        asyncio.Event(),
    ]
    async with relaying(server.address) as relay:
        relay.cut_after(b"so far")
        report = await client.call("server-gone", relay.address, SCRIPTED)

    assert report.code == "UNAVAILABLE"
    # gRPC may drop messages that the client has not read when the connection breaks.
    assert text_of(report.events) in ("so far", "")
    assert "finished" not in kinds(report.events)
