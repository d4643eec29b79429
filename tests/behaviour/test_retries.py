"""Clients with the published service config retry only what never ran."""

import json

import grpc
import pytest
from eudai import CHANNEL_OPTIONS, SERVICE_CONFIG
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from scripted_ollama import HEADERS_STREAM, RESET, ScriptedOllama, chunk, error, line, words
from serving import Server

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")


def test_the_config_names_only_methods_that_may_be_retried() -> None:
    config = json.loads(SERVICE_CONFIG)
    names = [name for method in config["methodConfig"] for name in method["name"]]

    assert {"service": "eudai.v1.GenerationService"} in names
    assert {name.get("method") for name in names if name["service"] == "eudai.v1.ModelService"} == {
        "ListModels",
        "GetModel",
    }


async def test_a_refused_call_is_retried_after_the_servers_delay(
    server: Server, ollama: ScriptedOllama
) -> None:
    answers = [
        error(503, "server busy, please try again.  maximum pending requests exceeded"),
        words("Hello"),
    ]
    ollama.scripts["/api/generate"] = lambda _: answers.pop(0)
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        events = [
            event
            async for event in rpc.GenerationServiceStub(channel).Generate(REQUEST, timeout=10)
        ]

    assert events[-1].HasField("finished")
    assert len(ollama.sent_to("/api/generate")) == 2


async def test_a_call_that_may_have_run_is_not_retried(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="", done=False)), RESET]
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await rpc.GenerationServiceStub(channel).Generate(REQUEST, timeout=10).read()

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(ollama.sent_to("/api/generate")) == 1
