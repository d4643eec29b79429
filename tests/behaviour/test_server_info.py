"""GetServerInfo reports versions, limits and running requests."""

import asyncio

import pytest
from eudai.v1 import server_service_pb2 as pb, server_service_pb2_grpc as rpc
from eudai_server import __version__
from scripted_ollama import HEADERS_STREAM, ScriptedOllama, chunk, line
from serving import Server, collect


async def info(server: Server) -> pb.GetServerInfoResponse:
    """Call GetServerInfo."""
    answer: pb.GetServerInfoResponse = await rpc.ServerServiceStub(server.channel).GetServerInfo(
        pb.GetServerInfoRequest(), timeout=5
    )
    return answer


@pytest.mark.usefixtures("quick_probe")
async def test_versions_and_limits_are_reported(server: Server, ollama: ScriptedOllama) -> None:
    up = await info(server)
    await ollama.stop()
    await server.until("", "NOT_SERVING")
    down = await info(server)

    assert (up.version, up.ollama_version, down.ollama_version) == (__version__, "0.32.15", "")
    assert (up.max_running, up.max_queued) == (64, 256)
    assert (up.max_message_bytes, up.admin_enabled, up.load_options_enabled) == (
        8 << 20,
        False,
        True,
    )


async def test_running_requests_are_counted(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, chunk(line(response="x", done=False)), 60.0]
    running = [asyncio.create_task(collect(server, prompt="x")) for _ in range(3)]
    while len(ollama.sent_to("/api/generate")) < 3:
        await asyncio.sleep(0.01)
    busy = (await info(server)).running
    for task in running:
        task.cancel()
    await asyncio.wait(running)

    assert busy == 3
