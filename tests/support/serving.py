"""A real server in this process, and ways to call it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from eudai_server.app import App
from eudai_server.config import Config
from eudai_server.rpc.transport.listener import ClientTimeouts
from grpc_health.v1 import health_pb2, health_pb2_grpc

CLEANUP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Server:
    """A running server, and a channel to it."""

    app: App
    address: str
    channel: Any  # grpc's annotations do not cover calls without a generated stub

    @property
    def generation(self) -> Any:
        """The stub of GenerationService."""
        return rpc.GenerationServiceStub(self.channel)

    async def health(self, name: str) -> str:
        """The status of this name in the health service."""
        answer = await health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(service=name), timeout=5
        )
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def until(self, name: str, status: str, timeout_s: float = 20.0) -> None:
        """Wait until a name has a status in the health service."""
        async with asyncio.timeout(timeout_s):
            while await self.health(name) != status:
                await asyncio.sleep(0.005)

    async def until_admitted(self, *, running: int, queued: int, timeout_s: float = 20.0) -> None:
        """Wait until this many requests run and this many wait, on all models."""
        admission = self.app.parts.admission
        async with asyncio.timeout(timeout_s):
            while (admission.running, admission.queued) != (running, queued):
                await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(config: Config, **client_timeouts: float) -> AsyncIterator[Server]:
    """Run a server on its own port. Fails if it leaves a task behind."""
    before = asyncio.all_tasks()
    app = App(config, ClientTimeouts(**client_timeouts))
    port = await app.start()
    address = f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.enable_retries", 0)]
        ) as channel:
            yield Server(app, address, channel)
    finally:
        await app.drain()
    await _nothing_is_left(before)


async def _nothing_is_left(before: set["asyncio.Task[Any]"]) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + CLEANUP_TIMEOUT_S
    while left := [task for task in asyncio.all_tasks() - before if "eudai_server" in repr(task)]:
        assert loop.time() < deadline_s, f"tasks are left: {left}"
        await asyncio.sleep(0.001)


def config_for(url: str, **changes: Any) -> Config:
    """A configuration with short waits."""
    config = Config(
        ollama_base_url=url,
        listen="127.0.0.1:0",
        lame_duck_s=0.0,
        drain_grace_s=2.0,
        load_options=True,
        max_running=64,
        max_queued=256,
    )
    return replace(config, **changes)


async def collect(server: Server, **fields: Any) -> list[pb.GenerateResponse]:
    """Make one generation, and return every event."""
    fields.setdefault("model", "gemma3:270m")
    call = server.generation.Generate(pb.GenerateRequest(**fields), timeout=60)
    return [event async for event in call]


def kinds(events: list[pb.GenerateResponse]) -> list[str]:
    """The kinds of events, in order."""
    return [event.WhichOneof("event") or "" for event in events]


def text_of(events: list[pb.GenerateResponse]) -> str:
    """The answer's text."""
    return "".join(event.delta.text for event in events)
