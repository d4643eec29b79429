"""An Ollama that answers questions and generates nothing is down, and comes back by itself; so is one that lost its GPU."""

import asyncio
from typing import Any

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from eudai_server.ollama import backend
from refusal import refusal
from scripted_ollama import END, HEADERS_STREAM, RESET, Script, ScriptedOllama, chunk, done, line
from serving import Server, collect, config_for, serving, text_of

STALLS = 3


async def test_three_stalls_in_a_row_are_an_outage_that_ends_by_itself(
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
        config_for(ollama.url, event_timeout_s=0.3, first_event_timeout_s=0.3)
    ) as server:
        await server.until("", "SERVING")
        for count in range(STALLS):
            assert await server.health("") == "SERVING", count
            assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
        assert await server.health("") == "NOT_SERVING"
        assert (await refusal(server, prompt="hi")).reason == "BACKEND_UNREACHABLE"
        await asyncio.sleep(1.5)
        assert await server.health("") == "NOT_SERVING"
        goes_on.set()
        await server.until("", "SERVING", timeout_s=3)
        assert text_of(await collect(server, prompt="hi")) == "x"


async def test_a_question_that_is_lost_in_what_hangs_is_asked_anew(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    async with serving(
        config_for(ollama.url, event_timeout_s=0.2, first_event_timeout_s=0.2)
    ) as server:
        await server.until("", "SERVING")
        for _ in range(STALLS):
            await refusal(server, prompt="hi")
        await asyncio.sleep(1.5)
        del ollama.scripts["/api/generate"]  # the question under way is never answered
        await server.until("", "SERVING", timeout_s=4)


async def test_a_backend_that_never_settles_hangs_too(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "SETTLE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(backend, "CANARY_TIMEOUT_S", 0.2)
    ollama.scripts["/api/generate"] = [60.0]
    async with serving(
        config_for(ollama.url, max_running=1, event_timeout_s=0.3, first_event_timeout_s=0.3)
    ) as server:
        await server.until("", "SERVING")
        for _ in range(STALLS - 1):
            assert (await refusal(server, prompt="hi")).reason == "BACKEND_STALLED"
        assert await server.health("") == "SERVING"
        await server.until("", "NOT_SERVING", timeout_s=2)


async def test_an_answer_in_between_makes_it_no_outage(ollama: ScriptedOllama) -> None:
    async with serving(
        config_for(ollama.url, event_timeout_s=0.2, first_event_timeout_s=0.2)
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
    """A whole answer that says it came at that rate."""
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
    """Its model lies on a GPU."""
    ollama.models["gemma3:270m"]["size_vram"] = 1 << 30
    return ollama


async def test_a_model_that_is_not_on_the_gpu_is_not_serving(on_gpu: ScriptedOllama) -> None:
    async with serving(config_for(on_gpu.url, expect_gpu=True)) as server:
        await server.until("", "SERVING")
        await collect(server, prompt="hi")
        assert await server.health("model/gemma3:270m") == "SERVING"
        on_gpu.models["gemma3:270m"]["size_vram"] = 0
        await server.until("model/gemma3:270m", "NOT_SERVING", timeout_s=2.5)
        assert await server.health("") == "NOT_SERVING"
        assert await server.health("model/deepseek-r1:1.5b") == "SERVING"
        assert text_of(await collect(server, prompt="slow is better than nothing")) == "Hello world"
        on_gpu.models["gemma3:270m"]["size_vram"] = 1 << 30
        await server.until("", "SERVING", timeout_s=2.5)


async def test_a_model_that_grew_five_times_slower_lost_the_gpu_whatever_ollama_lists(
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
        await server.until("", "SERVING", timeout_s=2.5)


async def test_answers_that_share_the_gpu_say_nothing_of_it(on_gpu: ScriptedOllama) -> None:
    async with serving(config_for(on_gpu.url, expect_gpu=True)) as server:
        await server.until("", "SERVING")
        on_gpu.scripts["/api/generate"] = answer_at(100.0)
        await collect(server, prompt="hi")
        on_gpu.scripts["/api/generate"] = [0.2, *answer_at(10.0)]
        await asyncio.gather(*(collect(server, prompt="hi") for _ in range(6)))
        assert await server.health("") == "SERVING"


async def test_without_the_expectation_a_cpu_is_no_fault(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["gemma3:270m"]["size_vram"] = 0
    await collect(server, prompt="hi")
    await asyncio.sleep(1.2)

    assert await server.health("") == "SERVING"


async def test_a_client_that_reads_nothing_is_given_up(ollama: ScriptedOllama) -> None:
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
    assert "read nothing for 0.5 s" in message


async def test_a_look_that_fails_leaves_no_request_behind(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/tags"] = [RESET]
    ollama.scripts["/api/ps"] = [60.0]
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "NOT_SERVING")
        while len(ollama.sent_to("/api/tags")) < 3:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        left = [one for one in ollama.sent_to("/api/ps") if not one.closed.is_set()]

    assert not left
