"""Models that hang or have lost their GPU, and clients that do not read.

A model that hangs is refused and NOT_SERVING until it answers again; other models are served.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from eudai.v1.embedding_service_pb2 import EmbedRequest
from eudai.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from eudai.v1.model_service_pb2 import (
    ListModelsRequest,
    LoadModelRequest,
    UnloadModelRequest,
)
from eudai.v1.model_service_pb2_grpc import ModelServiceStub
from eudai_server.ollama import backend
from refusal import Refusal, refusal
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    RESET,
    Exchange,
    Script,
    ScriptedOllama,
    chunk,
    done,
    line,
    reply,
    words,
)
from serving import Server, collect, config_for, serving, text_of

pytestmark = pytest.mark.slow

STALLS = 3
OTHER = "deepseek-r1:1.5b"


async def test_ollama_is_not_serving_while_all_its_models_hang(
    ollama: ScriptedOllama,
) -> None:
    goes_on = asyncio.Event()
    ollama.scripts["/api/generate"] = [
        goes_on,
        HEADERS_STREAM,
        chunk(line(response="x", done=False)),
        chunk(done()),
        END,
    ]
    async with serving(
        config_for(ollama.url, event_timeout_s=0.5, first_event_timeout_s=0.5)
    ) as server:
        await server.until("", "SERVING")
        for count in range(STALLS):
            assert await server.health("") == "SERVING", count
            assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
        assert await server.health("") == "NOT_SERVING"
        refused = await refusal(server, prompt="hi")
        assert refused.reason == "BACKEND_STALLED"
        assert int(refused.trailers["grpc-retry-pushback-ms"]) > 0
        await ollama.until_probed()
        assert await server.health("") == "NOT_SERVING"
        goes_on.set()
        await server.until("", "SERVING")
        assert text_of(await collect(server, prompt="hi")) == "x"


async def test_a_canary_that_gets_no_answer_is_sent_again(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    async with serving(
        config_for(ollama.url, event_timeout_s=0.2, first_event_timeout_s=0.2)
    ) as server:
        await server.until("", "SERVING")
        for _ in range(STALLS):
            await refusal(server, prompt="hi")
        await ollama.until_sent("/api/generate", STALLS + 1)
        del ollama.scripts["/api/generate"]  # the running canary never gets an answer
        await server.until("", "SERVING")


def only_gemma_hangs(exchange: Exchange) -> Script:
    """Return no answer for gemma3:270m, and the usual answer for every other model."""
    return [60.0] if exchange.model == "gemma3:270m" else words("Hello", " world")


@pytest.fixture
async def hung(ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server whose Ollama has two models in memory, of which gemma3:270m hangs."""
    async with serving(
        config_for(ollama.url, admin=True, event_timeout_s=0.5, first_event_timeout_s=0.5)
    ) as server:
        await server.until("", "SERVING")
        await collect(server, model=OTHER, prompt="hi")
        ollama.scripts["/api/generate"] = only_gemma_hangs
        for _ in range(STALLS):
            assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
        yield server


async def test_a_hanging_model_is_refused_and_others_are_served(
    hung: Server, ollama: ScriptedOllama
) -> None:
    sent = len(ollama.sent_to("/api/generate"))
    refused = await refusal(hung, prompt="not sent")
    listed = await ModelServiceStub(hung.channel).ListModels(ListModelsRequest())

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_STALLED")
    assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() > 0
    assert "not sent" not in [
        exchange.body["prompt"] for exchange in ollama.sent_to("/api/generate")[sent:]
    ]
    assert await hung.health("model/gemma3:270m") == "NOT_SERVING"
    assert await hung.health(f"model/{OTHER}") == "SERVING"
    assert await hung.health("") == "SERVING"
    assert text_of(await collect(hung, model=OTHER, prompt="hi")) == "Hello world"
    assert [model.name for model in listed.models] == [OTHER, "gemma3:270m"]


async def test_all_names_of_a_hanging_model_are_refused(
    hung: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["alias:latest"] = dict(ollama.models["gemma3:270m"])
    await hung.until("model/alias", "NOT_SERVING")

    assert (await refusal(hung, model="alias", prompt="hi")).reason == "BACKEND_STALLED"


async def test_unloading_a_hanging_model_cures_it(hung: Server, ollama: ScriptedOllama) -> None:
    asked = len(ollama.sent_to("/api/generate"))
    await ModelServiceStub(hung.channel).UnloadModel(UnloadModelRequest(model="gemma3:270m"))
    ollama.scripts["/api/generate"] = words("back")

    assert ollama.unloads() == ["gemma3:270m"]
    assert await hung.health("model/gemma3:270m") == "SERVING"
    assert text_of(await collect(hung, prompt="hi")) == "back"
    assert [exchange.closed.is_set() for exchange in ollama.sent_to("/api/generate")[asked:]].count(
        False
    ) == 0


async def test_loading_a_model_that_hangs_is_refused(hung: Server, ollama: ScriptedOllama) -> None:
    loads = len(ollama.loads())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ModelServiceStub(hung.channel).LoadModel(LoadModelRequest(model="gemma3:270m"))

    assert Refusal(raised.value).reason == "BACKEND_STALLED"
    assert len(ollama.loads()) == loads


async def test_a_model_that_stalls_while_embedding_hangs(ollama: ScriptedOllama) -> None:
    ollama.load("gemma3:270m")
    ollama.scripts["/api/embed"] = lambda exchange: (
        [60.0] if exchange.body["input"] else reply(200, {"embeddings": []})
    )
    async with serving(
        config_for(ollama.url, event_timeout_s=0.2, first_event_timeout_s=0.2)
    ) as server:
        await server.until("", "SERVING")
        stub = EmbeddingServiceStub(server.channel)
        reasons = []
        for _ in range(STALLS + 1):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stub.Embed(EmbedRequest(model="gemma3:270m", inputs=["x"])).read()
            reasons.append(Refusal(failure.value).trailers["grpc-retry-pushback-ms"])

    assert reasons[:STALLS] == ["-1"] * STALLS
    assert int(reasons[STALLS]) > 0


async def test_a_model_that_never_settles_hangs(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "SETTLE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(backend, "CANARY_TIMEOUT_S", 0.2)
    ollama.scripts["/api/generate"] = [60.0]
    async with serving(
        config_for(ollama.url, max_running=1, event_timeout_s=0.5, first_event_timeout_s=0.5)
    ) as server:
        await server.until("", "SERVING")
        for _ in range(STALLS - 1):
            assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
        assert await server.health("") == "SERVING"
        await server.until("", "NOT_SERVING")


async def test_a_model_that_answers_between_stalls_does_not_hang(ollama: ScriptedOllama) -> None:
    async with serving(
        config_for(ollama.url, event_timeout_s=0.5, first_event_timeout_s=0.5)
    ) as server:
        await server.until("", "SERVING")
        for _ in range(2):
            for _ in range(STALLS - 1):
                ollama.scripts["/api/generate"] = [60.0]
                assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
            del ollama.scripts["/api/generate"]
            await collect(server, prompt="hi")
        assert await server.health("") == "SERVING"


def answer_at(tokens_per_s: float) -> Script:
    """A complete answer that reports this rate of tokens."""
    fields: dict[str, Any] = {
        "response": "",
        "done": True,
        "done_reason": "stop",
        "eval_count": 32,
        "prompt_eval_count": 3,
    }
    last = line(**fields, eval_duration=int(32e9 / tokens_per_s))
    return [HEADERS_STREAM, chunk(line(response="x", done=False)), chunk(last), END]


@pytest.fixture
def on_gpu(ollama: ScriptedOllama) -> ScriptedOllama:
    """A server whose model is on a GPU."""
    ollama.models["gemma3:270m"]["size_vram"] = 1 << 30
    return ollama


async def test_a_model_that_is_not_on_the_gpu_is_not_serving(on_gpu: ScriptedOllama) -> None:
    async with serving(config_for(on_gpu.url, expect_gpu=True)) as server:
        await server.until("", "SERVING")
        await collect(server, prompt="hi")
        assert await server.health("model/gemma3:270m") == "SERVING"
        on_gpu.models["gemma3:270m"]["size_vram"] = 0
        await server.until("model/gemma3:270m", "NOT_SERVING")
        assert await server.health("") == "NOT_SERVING"
        assert await server.health("model/deepseek-r1:1.5b") == "SERVING"
        assert text_of(await collect(server, prompt="slow is better than nothing")) == "Hello world"
        on_gpu.models["gemma3:270m"]["size_vram"] = 1 << 30
        await server.until("", "SERVING")


async def test_a_model_that_became_five_times_slower_has_lost_the_gpu(
    on_gpu: ScriptedOllama,
) -> None:
    async with serving(config_for(on_gpu.url, expect_gpu=True)) as server:
        await server.until("", "SERVING")
        for rate, times in ((100.0, 1), (10.0, 2), (90.0, 1), (10.0, 2)):
            on_gpu.scripts["/api/generate"] = answer_at(rate)
            for _ in range(times):
                await collect(server, prompt="hi")
        assert await server.health("") == "SERVING"
        await collect(server, prompt="hi")
        assert await server.health("model/gemma3:270m") == "NOT_SERVING"
        on_gpu.resident.clear()
        await server.until("", "SERVING")


async def test_concurrent_answers_are_no_evidence_of_a_lost_gpu(on_gpu: ScriptedOllama) -> None:
    async with serving(config_for(on_gpu.url, expect_gpu=True)) as server:
        await server.until("", "SERVING")
        on_gpu.scripts["/api/generate"] = answer_at(100.0)
        await collect(server, prompt="hi")
        on_gpu.scripts["/api/generate"] = [0.2, *answer_at(10.0)]
        await asyncio.gather(*(collect(server, prompt="hi") for _ in range(6)))
        assert await server.health("") == "SERVING"


async def test_a_cpu_is_not_a_fault_unless_a_gpu_is_expected(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["gemma3:270m"]["size_vram"] = 0
    await collect(server, prompt="hi")
    await ollama.until_probed()

    assert await server.health("") == "SERVING"


async def test_the_call_of_a_client_that_does_not_read_is_ended(ollama: ScriptedOllama) -> None:
    flood = [
        HEADERS_STREAM,
        *[chunk(line(response="x" * 60_000, done=False)) for _ in range(400)],
        chunk(done()),
        END,
    ]
    ollama.scripts["/api/generate"] = flood
    async with serving(config_for(ollama.url), write_timeout_s=0.5) as server:
        await server.until("", "SERVING")
        call = server.generation.Generate(pb.GenerateRequest(model="gemma3:270m", prompt="hi"))
        await call.read()
        while server.app.parts.admission.running:
            await asyncio.sleep(0.05)
        while not ollama.sent_to("/api/generate")[0].closed.is_set():
            await asyncio.sleep(0.01)
        code, message = None, ""
        try:
            while await call.read():
                pass
        except grpc.aio.AioRpcError as failure:
            code, message = failure.code(), failure.details() or ""

    assert code is grpc.StatusCode.CANCELLED
    assert "did not read for 0.5 s" in message


async def test_a_failed_probe_leaves_no_request_open(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/tags"] = [RESET]
    ollama.scripts["/api/ps"] = [60.0]
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "NOT_SERVING")
        await ollama.until_probed()
        async with asyncio.timeout(5):
            for request in ollama.sent_to("/api/ps"):
                await request.closed.wait()
        assert ollama.sent_to("/api/ps")
