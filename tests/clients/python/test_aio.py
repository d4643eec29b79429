"""The client for asyncio has the same words, and ends calls as the blocking client does."""

import asyncio
import inspect
import threading
from pathlib import Path

import eudai
import pytest
from eudai.v1 import generation_service_pb2 as pb, model_service_pb2 as model_pb
from scripted_services import ScriptedServices, endless, endless_pull, failing

grpc_max_workers = 8
MODEL = "gemma3:270m"


@pytest.mark.parametrize("name", ["Client", "Chat", "Stream", "Transfer"])
def test_both_clients_have_the_same_words(name: str) -> None:
    blocking, asynchronous = getattr(eudai, name), getattr(eudai, f"Async{name}")

    assert words_of(blocking) == words_of(asynchronous)


def words_of(kind: type) -> dict[str, list[str]]:
    """The public methods and properties of a class with their parameters."""
    return {
        name: list(inspect.signature(member).parameters) if callable(member) else []
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_")
    }


async def test_leaving_the_block_cancels(
    async_client: eudai.AsyncClient, services: ScriptedServices
) -> None:
    services.on["Generate"] = endless
    async with async_client.generate(MODEL, "hi") as stream:
        assert await anext(stream.text) == "n"

    assert await asyncio.to_thread(services.ended.wait, 10)
    assert stream.partial.text.startswith("n")


async def test_cancelling_the_task_cancels_the_call(
    async_client: eudai.AsyncClient, services: ScriptedServices
) -> None:
    services.on["Generate"] = endless
    has_text = asyncio.Event()

    async def read() -> None:
        async with async_client.generate(MODEL, "hi") as stream:
            async for _ in stream.text:
                has_text.set()

    task = asyncio.create_task(read())
    await has_text.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(services.ended.wait, 10)


async def test_a_stream_has_the_same_rules(
    async_client: eudai.AsyncClient, services: ScriptedServices
) -> None:
    idle = async_client.generate(MODEL, "hi")
    with pytest.raises(RuntimeError, match="the call has not started"):
        await idle.result()
    async with async_client.generate(MODEL, "hi") as stream:
        kinds = [event.WhichOneof("event") async for event in stream.events]
        with pytest.raises(RuntimeError, match="already been iterated"):
            _ = stream.text
        assert (await stream.result()).text == "Hello there!"
    assert kinds == ["started", "delta", "delta", "finished"]
    services.on["Generate"] = failing
    async with async_client.generate(MODEL, "hi") as stream:
        with pytest.raises(eudai.BackendStreamInterruptedError) as failure:
            await stream.result()
    assert failure.value.partial
    assert failure.value.partial.text == "partial"
    services.on["Generate"] = lambda _request, _context: iter([pb.GenerateResponse()])
    async with async_client.generate(MODEL, "hi") as stream:
        with pytest.raises(eudai.IncompleteResponseError):
            await stream.result()


async def test_a_chat_remembers(async_client: eudai.AsyncClient) -> None:
    chat = async_client.chat(MODEL)
    async with chat.send("hi") as stream:
        await anext(stream.text)
    assert chat.messages == []
    async with chat.send("hi") as stream:
        await stream.result()
    assert len(chat.messages) == 2
    with pytest.raises(eudai.ToolRoundsError):
        await chat.run("call f", tools=[f], rounds_max=1)


async def f() -> str:
    """Do nothing."""
    return ""


async def test_models_are_managed(
    async_client: eudai.AsyncClient, services: ScriptedServices, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"test")
    threads = threading.active_count()

    assert [model.name async for model in async_client.models()] == [
        "all-minilm:latest", "gemma3:270m",
    ]  # fmt: skip
    assert (await async_client.model("m")).model.name == "m"
    assert (await async_client.upload(path)).startswith("sha256:9f86d0")
    assert [each.data for each in services.requests[-1]] == [b"", b"test"]
    assert (await async_client.push("m").wait()).name == "m"
    assert (await async_client.create(model_pb.CreateModelRequest(model="n")).wait()).name == "n"
    assert (await async_client.copy("a", "b")).name == "b"
    assert (await async_client.load("m")).name == "m"
    await async_client.unload("m")
    await async_client.cancel_pull("m")
    assert len(await async_client.pulls()) == 1
    await async_client.delete("m")
    assert threads <= threading.active_count() + 1


async def test_leaving_a_pull_cancels_it(
    async_client: eudai.AsyncClient, services: ScriptedServices
) -> None:
    services.on["PullModel"] = endless_pull
    async with async_client.pull("m") as pull:
        async for progress in pull:
            assert progress.total_bytes == 2
            break

    assert await asyncio.to_thread(services.ended.wait, 10)
    with pytest.raises(RuntimeError, match="left before"):
        await pull.wait()


async def test_answers_errors_and_vectors_are_the_same(async_client: eudai.AsyncClient) -> None:
    assert (await async_client.generate_once(MODEL, "hi")).text == "Hello there!"
    assert await async_client.embed("m", ["a"]) == [[1.0, 0.0]]
    assert (await async_client.embed("m", ["a"], as_numpy=True)).shape == (1, 2)
    assert await async_client.health()
    assert (await async_client.server_info()).max_queued == 4
    with pytest.raises(eudai.ModelNotFoundError):
        await async_client.generate_once("no-such-model", "hi")
    with pytest.raises(eudai.ParseError):
        await async_client.parse(MODEL, "not json", pb.Usage)
