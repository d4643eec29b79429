"""Models that Ollama would run in its cloud: none of them gets a prompt."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from eudai.v1 import (
    embedding_service_pb2 as embedding_pb,
    embedding_service_pb2_grpc as embedding_rpc,
    generation_service_pb2 as generation_pb,
    model_service_pb2 as pb,
    model_service_pb2_grpc as rpc,
)
from refusal import drained, refused
from scripted_ollama import Script, ScriptedOllama, line, reply, stream
from serving import Server, config_for, serving

FACTS = {"/api/tags", "/api/ps", "/api/version", "/api/status"}
REMOTE = {"digest": "c" * 64, "remote_host": "https://ollama.com:443", "remote_model": "big"}
LOCAL = "gemma3:270m"

Call = Callable[[Server, str], Any]
# One request for each RPC that names a model.
CALLS: dict[str, Call] = {
    "Generate": lambda server, model: server.generation.Generate(
        generation_pb.GenerateRequest(model=model, prompt="SECRET")
    ),
    "GenerateOnce": lambda server, model: server.generation.GenerateOnce(
        generation_pb.GenerateOnceRequest(
            request=generation_pb.GenerateRequest(model=model, prompt="SECRET")
        )
    ),
    "Embed": lambda server, model: embedding_rpc.EmbeddingServiceStub(server.channel).Embed(
        embedding_pb.EmbedRequest(model=model, inputs=["SECRET"])
    ),
    "GetModel": lambda server, model: admin(server).GetModel(pb.GetModelRequest(model=model)),
    "PullModel": lambda server, model: admin(server).PullModel(pb.PullModelRequest(model=model)),
    "PushModel": lambda server, model: admin(server).PushModel(pb.PushModelRequest(model=model)),
    "CreateModel, its base": lambda server, model: admin(server).CreateModel(
        pb.CreateModelRequest(model="new", base_model=model)
    ),
    "CreateModel, its name": lambda server, model: admin(server).CreateModel(
        pb.CreateModelRequest(model=model, base_model=LOCAL)
    ),
    "CopyModel, its source": lambda server, model: admin(server).CopyModel(
        pb.CopyModelRequest(source=model, destination="new")
    ),
    "CopyModel, its destination": lambda server, model: admin(server).CopyModel(
        pb.CopyModelRequest(source=LOCAL, destination=model)
    ),
    "DeleteModel": lambda server, model: admin(server).DeleteModel(
        pb.DeleteModelRequest(model=model)
    ),
    "LoadModel": lambda server, model: admin(server).LoadModel(pb.LoadModelRequest(model=model)),
    "UnloadModel": lambda server, model: admin(server).UnloadModel(
        pb.UnloadModelRequest(model=model)
    ),
}
# These create or remove a model, which need not run here.
NEED_NO_MODEL = {
    "PullModel",
    "CreateModel, its name",
    "CopyModel, its destination",
    "DeleteModel",
}


def admin(server: Server) -> Any:
    """A stub of ModelService."""
    return rpc.ModelServiceStub(server.channel)


@pytest.fixture
async def server(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server with administration, before an Ollama of which one model is remote."""
    ollama.models["mine:latest"] = REMOTE
    ollama.scripts["/api/show"] = reply(200, {"details": {}, "capabilities": ["completion"]})
    async with serving(config_for(ollama.url, admin=True)) as running:
        await running.until("", "SERVING")
        yield running


@pytest.mark.parametrize("model", ["big:cloud", " Big:120B-Cloud", "hf.co/a/b:7b:cloud"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_cloud_model_name_is_refused_by_every_rpc(
    server: Server, ollama: ScriptedOllama, call: str, model: str
) -> None:
    failure = await refused(CALLS[call](server, model))

    assert failure.reason == "CLOUD_DISABLED"
    assert failure.details["ErrorInfo"].metadata["model"] == model.strip()
    assert {exchange.route for exchange in ollama.exchanges} <= FACTS


@pytest.mark.parametrize("call", sorted(CALLS.keys() - NEED_NO_MODEL))
async def test_a_remote_model_with_a_local_name_is_refused(
    server: Server, ollama: ScriptedOllama, call: str
) -> None:
    failure = await refused(CALLS[call](server, "mine"))

    assert failure.reason == "CLOUD_DISABLED"
    assert {exchange.route for exchange in ollama.exchanges} <= FACTS


async def test_a_remote_model_is_not_listed_or_healthy_but_can_be_deleted(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.models |= {"odd:local": {"digest": "d" * 64}, "odd:1b-cloud": {"digest": "e" * 64}}
    ollama.scripts["/api/delete"] = reply(200, "")
    listed = (await admin(server).ListModels(pb.ListModelsRequest())).models
    health = await server.health("model/mine"), await server.health("model/big:cloud")
    await admin(server).DeleteModel(pb.DeleteModelRequest(model="mine"))

    assert [model.name for model in listed] == ["deepseek-r1:1.5b", LOCAL]
    assert health == ("NOT_SERVING", "NOT_SERVING")
    assert ollama.sent_to("/api/delete")[0].body == {"model": "mine:latest"}


async def test_an_ollama_with_only_remote_models_is_not_serving(ollama: ScriptedOllama) -> None:
    ollama.models = {"mine:latest": REMOTE}
    async with serving(config_for(ollama.url)) as server:
        await server.until("liveness", "SERVING")

        assert await server.health("") == "NOT_SERVING"


@pytest.mark.parametrize("call", ["Generate", "GenerateOnce"])
async def test_a_model_that_became_remote_since_the_last_probe_gets_no_prompt(
    server: Server, ollama: ScriptedOllama, call: str
) -> None:
    await drained(CALLS["Generate"](server, LOCAL))
    ollama.models[LOCAL] = REMOTE
    failure = await refused(CALLS[call](server, LOCAL))

    # The double refuses ":local" of a remote model, as Ollama does.
    assert failure.reason in ("MODEL_NOT_FOUND", "CLOUD_DISABLED")


async def test_every_request_that_could_carry_a_prompt_asks_for_a_local_model(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/embed"] = reply(200, {"embeddings": [[1.0]], "prompt_eval_count": 1})
    for call in ("Generate", "GenerateOnce", "Embed", "LoadModel"):
        await drained(CALLS[call](server, LOCAL))
    chat = generation_pb.GenerateRequest(model=LOCAL)
    chat.conversation.messages.add(role=2).parts.add(text="hi")
    await drained(server.generation.Generate(chat))
    sent = [each for each in ollama.exchanges if each.route not in FACTS | {"/api/show"}]

    assert {each.route for each in sent} == {"/api/generate", "/api/chat", "/api/embed"}
    assert {each.body["model"] for each in sent} == {f"{LOCAL}:local"}


async def test_an_answer_of_a_remote_model_fails_the_call(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(
        line(response="x", remote_host="https://ollama.com:443", remote_model="big", done=False)
    )

    assert (await refused(CALLS["Generate"](server, LOCAL))).reason == "CLOUD_DISABLED"


async def test_a_pull_that_brings_a_remote_model_fails(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/pull"] = stream(line(status="success"))

    assert (await refused(CALLS["PullModel"](server, "mine"))).reason == "CLOUD_DISABLED"


@pytest.mark.parametrize(
    ("status", "warnings"),
    [
        (reply(200, {"cloud": {"disabled": False, "source": "none"}}), 1),
        (reply(200, {"cloud": {"disabled": True, "source": "env"}}), 0),
        (reply(200, {"cloud": {}}), 0),
        (reply(200, "nonsense"), 0),
        (reply(404, "404 page not found", "text/plain"), 0),
    ],
)
async def test_an_enabled_cloud_is_logged_once(
    ollama: ScriptedOllama, caplog: pytest.LogCaptureFixture, status: Script, warnings: int
) -> None:
    ollama.scripts["/api/status"] = status
    with caplog.at_level(logging.WARNING):
        async with serving(config_for(ollama.url)) as server:
            await server.until("", "SERVING")
            await drained(CALLS["Generate"](server, LOCAL))
    logged = [record for record in caplog.records if "OLLAMA_NO_CLOUD" in record.message]

    assert len(logged) == warnings
