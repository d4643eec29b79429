"""Streams that are not valid calls or never end must not keep other callers from being answered."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from calls import channel_to, generate, until_health
from eudai_server.core.background import run_again
from eudai_server.core.errors import ServiceError
from eudai_server.rpc.transport import calls, listener, message_reader
from eudai_server.rpc.transport.listener import DEFAULT_CLIENT_TIMEOUTS, Listener, Options
from eudai_server.rpc.transport.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.wire.parsing import MESSAGE_BYTES_MAX
from http2_client import http2_to
from observed_server import observing
from scripted_ollama import ScriptedOllama
from serving import Server, collect, config_for, serving, text_of

MIB = 1 << 20
UNFINISHED_BYTES = MESSAGE_BYTES_MAX - 1
HALF_OPEN = 6


async def until_ended(ended: dict[int, dict[str, str]], count: int) -> list[dict[str, str]]:
    """Wait until this many streams have ended, and return their trailers."""
    async with asyncio.timeout(10):
        while len(ended) < count:
            await asyncio.sleep(0.01)
    return list(ended.values())


async def test_a_path_that_is_not_utf8_does_not_end_the_server(server: Server) -> None:
    for _ in range(3):
        async with http2_to(server.address) as raw:
            await raw.request(b"/\xff/x")
            await until_ended(raw.ended, 1)
            assert text_of(await collect(server, prompt="hi")) == "Hello world"
        async with channel_to(server.address) as channel:
            assert (await generate(channel)).finished


async def test_a_server_that_ends_by_itself_listens_again_on_its_port() -> None:
    made: list[grpc.aio.Server] = []

    def make_server(options: Options) -> grpc.aio.Server:
        made.append(grpc.aio.server(options=options))
        return made[-1]

    listening = Listener(make_server, DEFAULT_CLIENT_TIMEOUTS)
    port = await listening.start("127.0.0.1:0")
    await made[0].stop(None)
    async with asyncio.timeout(10):
        while len(made) < 2:
            await asyncio.sleep(0.01)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
    await listening.stop(0)
    await listening.wait()


async def test_a_port_that_cannot_be_bound_again_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "LISTEN_TIMEOUT_S", 0.1)
    made: list[grpc.aio.Server] = []

    def make_server(options: Options) -> grpc.aio.Server:
        if made:
            raise RuntimeError("the address is in use")
        made.append(grpc.aio.server(options=options))
        return made[-1]

    listening = Listener(make_server, DEFAULT_CLIENT_TIMEOUTS)
    await listening.start("127.0.0.1:0")
    await made[0].stop(None)
    with pytest.raises(listener.ListenError):
        await listening.wait()
    await listening.stop(0)


async def test_a_failed_task_is_logged_and_restarted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eudai_server.core.background.RESTART_AFTER_S", 0.0)
    runs, again = 0, asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("a defect")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_again(run, "probe"))
    async with asyncio.timeout(10):
        await again.wait()
    task.cancel()

    assert [vars(record)["fields"] for record in caplog.records] == [{"task": "probe"}]


async def test_endless_messages_cost_little_and_delay_no_caller(ollama: ScriptedOllama) -> None:
    async with (
        observing(ollama.url, EUDAI_MAX_RUNNING="64") as server,
        channel_to(server.address) as channel,
        http2_to(server.address) as raw,
    ):
        await until_health(channel, serving=True)
        assert (await generate(channel)).finished
        idle_bytes = (await server.inside())["rss"]
        for _ in range(HALF_OPEN):
            await raw.request(unfinished_bytes=UNFINISHED_BYTES)
        refused = await until_ended(raw.ended, HALF_OPEN - message_reader.SLOW_READS_MAX)
        answered = [await generate(channel) for _ in range(20)]
        peak_bytes = await server.peak_rss()

    assert all(outcome.finished for outcome in answered)
    assert {trailers["grpc-status"] for trailers in refused} == {"8"}  # RESOURCE_EXHAUSTED
    assert all(int(trailers["grpc-retry-pushback-ms"]) > 0 for trailers in refused)
    assert peak_bytes - idle_bytes <= 40 * MIB


@pytest.mark.slow
async def test_calls_that_wait_in_grpc_are_bounded(ollama: ScriptedOllama) -> None:
    async with (
        observing(ollama.url, EUDAI_MAX_RUNNING="64", EUDAI_MAX_QUEUED="4000") as server,
        AsyncExitStack() as stack,
    ):
        channels = [await stack.enter_async_context(channel_to(server.address)) for _ in range(15)]
        for channel in channels:
            await until_health(channel, serving=True)
        idle_bytes = (await server.inside())["rss"]
        server.seen.send_signal(signal.SIGSTOP)
        calls = [
            asyncio.create_task(generate(channel, "x" * 1000))
            for channel in channels
            for _ in range(100)
        ]
        await asyncio.sleep(1)  # meanwhile all are sent; a stopped server cannot confirm it
        server.seen.send_signal(signal.SIGCONT)
        outcomes = Counter(outcome.code for outcome in await asyncio.gather(*calls))
        peak_bytes = await server.peak_rss()

    assert outcomes[grpc.StatusCode.OK] >= 100
    # The others are over the limit, except those that the server has accepted meanwhile.
    assert outcomes[grpc.StatusCode.CANCELLED] >= 100
    assert peak_bytes - idle_bytes <= 40 * MIB


async def test_a_message_that_is_too_long_is_refused_before_it_arrives(server: Server) -> None:
    async with http2_to(server.address) as raw:
        await raw.request(unfinished_bytes=30 * MIB)
        (trailers,) = await until_ended(raw.ended, 1)

    assert trailers["grpc-status"] == "8"


async def test_a_large_message_is_read(server: Server) -> None:
    prompt = "x" * (UNFINISHED_BYTES - 100)

    assert text_of(await collect(server, prompt=prompt)) == "Hello world"


async def test_a_message_that_does_not_arrive_in_time_ends_the_call(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_reader, "TIMEOUT_S", 0.2)
    async with http2_to(server.address) as raw:
        await raw.request(unfinished_bytes=100)
        (trailers,) = await until_ended(raw.ended, 1)

    assert trailers["grpc-status"] == "1"  # CANCELLED
    assert "not send a complete message within 0.2 s" in trailers["grpc-message"]


async def test_a_call_that_is_not_allowed_is_refused_before_its_message(server: Server) -> None:
    async with http2_to(server.address) as raw:
        await raw.request(b"/eudai.v1.ModelService/DeleteModel", unfinished_bytes=UNFINISHED_BYTES)
        await raw.request(b"/eudai.v1.ModelService/UploadBlob", unfinished_bytes=UNFINISHED_BYTES)
        refused = await until_ended(raw.ended, 2)

    assert {trailers["grpc-status"] for trailers in refused} == {"7"}  # PERMISSION_DENIED


async def test_a_call_without_a_message_is_refused(server: Server) -> None:
    method = server.channel.stream_unary("/eudai.v1.ServerService/GetServerInfo")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await method(iter(()))

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "has no request message" in (failure.value.details() or "")


async def test_calls_over_the_limit_are_refused_but_health_checks_are_not(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CALLS_MAX", 2)
    release = ollama.hold()
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "SERVING")
        held = [asyncio.create_task(collect(server, prompt="hi")) for _ in range(2)]
        while server.app.parts.admission.running < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await collect(server, prompt="hi")
        assert await server.health("") == "SERVING"
        release.set()
        answers = await asyncio.gather(*held)

    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [text_of(events) for events in answers] == ["x", "x"]


# ---- which call is refused if too many large messages are arriving


async def never() -> bytes:
    """A message that never arrives."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def soon() -> bytes:
    """A message that arrives with its call."""
    return b"x"


@pytest.fixture
async def full(monkeypatch: pytest.MonkeyPatch) -> tuple[MessageReader, list["asyncio.Task[Any]"]]:
    """A reader whose places are all taken, by "a" and "b" in turn."""
    monkeypatch.setattr(message_reader, "YOUNG_S", 0.001)
    monkeypatch.setattr(message_reader, "LATE_S", 0.001)
    reader = MessageReader()
    held = []
    for caller in ("a", "b", "a")[: message_reader.SLOW_READS_MAX]:
        held.append(asyncio.create_task(reader.read(never, caller)))
        while reader.slow_reads < len(held):
            await asyncio.sleep(0.001)
    return reader, held


async def test_messages_that_arrive_at_once_need_no_place(full: Any) -> None:
    reader, held = full

    assert await reader.read(soon, "c") == b"x"
    for task in held:
        task.cancel()


async def test_the_caller_with_the_most_large_messages_gives_way(full: Any) -> None:
    reader, held = full
    late = asyncio.create_task(reader.read(never, "c"))
    with pytest.raises(ServiceError) as evicted:
        await held[0]

    assert evicted.value.reason == "QUEUE_FULL"
    assert [task.done() for task in (*held, late)] == [True, False, False, False]
    for task in (*held, late):
        task.cancel()


async def test_a_caller_with_as_many_reads_is_refused_until_the_oldest_had_its_time(
    full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, held = full
    with pytest.raises(ServiceError):
        await reader.read(never, "a")
    monkeypatch.setattr(message_reader, "FAIR_S", 0.0)
    late = asyncio.create_task(reader.read(never, "a"))
    with pytest.raises(ServiceError):
        await held[0]

    assert not held[1].done()
    for task in (*held, late):
        task.cancel()


async def test_a_cancelled_read_frees_its_place(full: Any) -> None:
    reader, held = full
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    waiting = [asyncio.create_task(reader.read(never, "a")) for _ in held]
    while reader.slow_reads < len(held):
        await asyncio.sleep(0.001)

    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()


async def test_a_client_that_sends_nothing_gets_a_status(
    full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, held = full
    for task in held:
        task.cancel()
    monkeypatch.setattr(message_reader, "TIMEOUT_S", 0.01)
    with pytest.raises(ClientStalledError, match="not send a complete message"):
        await MessageReader().read(never, "a")
