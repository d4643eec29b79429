"""Health statuses: readiness, liveness, each model, and watches."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scripted_ollama import ScriptedOllama
from serving import Server, config_for, serving

pytestmark = pytest.mark.slow

READINESS = [
    "",
    "eudai.v1.GenerationService",
    "eudai.v1.EmbeddingService",
    "eudai.v1.ModelService",
    "model/gemma3:270m",
]


@pytest.mark.parametrize("name", READINESS)
async def test_readiness_follows_ollama(server: Server, ollama: ScriptedOllama, name: str) -> None:
    assert await server.health(name) == "SERVING"

    await ollama.stop()
    await server.until(name, "NOT_SERVING")
    await ollama.start()
    await server.until(name, "SERVING")


async def test_liveness_ignores_ollama(server: Server, ollama: ScriptedOllama) -> None:
    await ollama.stop()
    await server.until("", "NOT_SERVING")

    assert await server.health("liveness") == "SERVING"


async def test_a_frozen_ollama_is_down(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/tags"] = [60.0]

    await server.until("", "NOT_SERVING")
    ollama.scripts.clear()
    await server.until("", "SERVING")


async def test_one_slow_answer_is_not_an_outage(server: Server, ollama: ScriptedOllama) -> None:
    asked = asyncio.Event()

    def slow_once(_: object) -> list[float]:
        del ollama.scripts["/api/tags"]
        asked.set()
        return [0.7]

    ollama.scripts["/api/tags"] = slow_once
    await asked.wait()
    for _ in range(20):
        assert await server.health("") == "SERVING"
        await asyncio.sleep(0.05)  # a second in all, in which nothing changes


async def test_a_server_that_is_not_ollama_is_down(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/ps"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]

    await server.until("", "NOT_SERVING")


async def test_an_ollama_without_models_is_not_serving(ollama: ScriptedOllama) -> None:
    ollama.models.clear()
    async with serving(config_for(ollama.url)) as server:
        await ollama.until_probed()

        assert await server.health("") == "NOT_SERVING"


async def test_a_model_is_looked_up_by_any_of_its_names(server: Server) -> None:
    assert await server.health("model/GEMMA3:270m") == "SERVING"
    assert await server.health("model/registry.ollama.ai/library/gemma3:270m") == "SERVING"
    assert await server.health("model/gemma3") == "NOT_SERVING"


async def test_an_unknown_name_is_not_found(server: Server) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await server.health("nonsense")

    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_reports_each_change_once(server: Server, ollama: ScriptedOllama) -> None:
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(
        health_pb2.HealthCheckRequest(service="")
    )
    first = await watch.read()
    await ollama.stop()
    second = await watch.read()
    await ollama.start()
    third = await watch.read()
    watch.cancel()

    assert [answer.status for answer in (first, second, third)] == [1, 2, 1]


async def test_a_watch_of_an_unknown_name_reports_it_and_stays_open(server: Server) -> None:
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(
        health_pb2.HealthCheckRequest(service="nonsense")
    )
    first = await watch.read()
    watch.cancel()

    assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
