"""Loads of models: who shares one, when a model counts as loaded, and how a load fails."""

import asyncio

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb, options_pb2
from google.protobuf.duration_pb2 import Duration
from refusal import Refusal, refusal
from scripted_ollama import RESET, ScriptedOllama, error, reply
from serving import Server, collect, config_for, serving, text_of

LOADED = reply(200, {"done": True, "done_reason": "load"})


async def test_a_load_that_fails_fails_every_caller_and_the_next_one_tries_again(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.load_script = [0.1, *error(500, "llama-server process has terminated")]
    failures = await asyncio.gather(
        *(collect(server, prompt="x") for _ in range(3)), return_exceptions=True
    )
    loads = len(ollama.loads())
    ollama.load_script = None
    answer = await collect(server, prompt="x")

    assert [type(failure) for failure in failures] == [grpc.aio.AioRpcError] * 3
    assert loads == 1
    assert text_of(answer) == "Hello world"


async def test_a_load_has_a_limit(ollama: ScriptedOllama) -> None:
    ollama.load_script = [60.0]
    async with serving(config_for(ollama.url, first_event_timeout_s=0.2)) as server:
        await server.until("", "SERVING")
        refused = await refusal(server, prompt="x")

    assert refused.reason == "BACKEND_STALLED"


async def test_a_load_without_callers_ends_with_the_server(ollama: ScriptedOllama) -> None:
    ollama.load_script = [60.0]
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "SERVING")
        call = server.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt="x"))
        while not ollama.loads():
            await asyncio.sleep(0.01)
        call.cancel()

    await asyncio.wait_for(ollama.loads()[0].closed.wait(), 10)


@pytest.mark.usefixtures("quick_probe")
async def test_an_evicted_model_is_loaded_again(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, prompt="x")
    ollama.resident.clear()
    await ollama.until_probed()
    await collect(server, prompt="x")

    assert len(ollama.loads()) == 2


@pytest.mark.usefixtures("quick_probe")
async def test_a_replaced_model_is_loaded_again(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, prompt="x")
    ollama.models["gemma3:270m"]["digest"] = "ff" * 32
    await ollama.until_probed()
    started = (await collect(server, prompt="x"))[0].started

    assert len(ollama.loads()) == 2
    assert started.digest == "sha256:" + "ff" * 32


async def test_a_model_that_is_not_kept_in_memory_is_loaded_again(
    server: Server, ollama: ScriptedOllama
) -> None:
    await collect(server, prompt="x", load=options_pb2.LoadOptions(keep_alive=Duration()))
    await collect(server, prompt="x")

    # A load request with keep_alive 0 would be an unload, so only the generation has it.
    assert [exchange.body.get("keep_alive") for exchange in ollama.loads()] == [None, None]
    assert [exchange.body.get("keep_alive") for exchange in ollama.sent_to("/api/generate")] == [
        0,
        None,
    ]


async def test_a_load_succeeds_if_the_running_models_cannot_be_listed(
    server: Server, ollama: ScriptedOllama
) -> None:
    def broken_after_the_load(_: object) -> list[object]:
        return [RESET] if ollama.loads() else list(reply(200, {"models": []}))

    ollama.scripts["/api/ps"] = broken_after_the_load

    assert text_of(await collect(server, prompt="x")) == "Hello world"


async def test_a_refused_connection_ends_readiness_at_once(
    server: Server, ollama: ScriptedOllama
) -> None:
    await collect(server, prompt="x")
    await ollama.stop()
    refused = await refusal(server, prompt="x")

    assert refused.reason == "BACKEND_UNREACHABLE"
    assert await server.health("") == "NOT_SERVING"


@pytest.mark.parametrize("script", [[RESET], []])
async def test_a_request_whose_connection_broke_may_not_be_retried(
    server: Server, ollama: ScriptedOllama, script: list[object]
) -> None:
    ollama.scripts["/api/generate"] = script
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")
    refused = Refusal(failure.value)

    assert refused.reason == "BACKEND_STREAM_INTERRUPTED"
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"
    assert refused.trailers["eudai-generation-id"]
    assert "GenerationFailure" not in refused.details
