"""A configuration goes in, a running server comes out: the parts, a port, and the way to take them down again."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass

import grpc

from eudai_server.assembly import Assembly
from eudai_server.config import Config, ConfigError
from eudai_server.errors import Reason
from eudai_server.ollama.client import Client
from eudai_server.rpc.server_service import MESSAGE_BYTES_MAX
from eudai_server.rpc.services import register

METADATA_BYTES_MAX = 16 << 10
# After a drain has cut what still ran: time for the statuses to go out.
CUT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How soon a client that went silent is given up."""

    # Without a sign of it, it is asked for one after the first, and has the second to answer.
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    # It answers, but does not read: gRPC has taken some megabytes for it by then.
    write_timeout_s: float = 30.0


def options_for(patience: Patience) -> tuple[tuple[str, int], ...]:
    """The settings of gRPC."""
    return (
        (
            "grpc.so_reuseport",
            0,
        ),  # by default a second server takes half the connections of a port in silence
        ("grpc.keepalive_time_ms", int(patience.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(patience.keepalive_timeout_s * 1000)),
        # Without it a frozen client is held for a minute more.
        ("grpc.http2.ping_timeout_ms", int(patience.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_idle_ms", 15 * 60_000),
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.max_allowed_incoming_connections", 4096),
        (
            "grpc.server_handshake_timeout_ms",
            5_000,
        ),  # two minutes by default: an open door for slow clients
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
    )


DRAINING = (Reason.DRAINING, "the server is shutting down; another one can take the call")

log = logging.getLogger(__name__)


class App:
    """One server, from the port it listens on to the Ollama it calls."""

    def __init__(self, config: Config, patience: Patience = Patience()) -> None:
        """Opens nothing yet. Wants a running event loop."""
        self._config = config
        self.parts = Assembly(
            config, Client(config.ollama_base_url), write_timeout_s=patience.write_timeout_s
        )
        self._server = grpc.aio.server(options=options_for(patience))
        register(self._server, self.parts.calls, self.parts.registrations)
        self._hurried = asyncio.Event()

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError where the address cannot be had."""
        try:
            port = self._server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            await self.parts.close()
            raise ConfigError(
                "EUDAI_LISTEN",
                f"{self._config.listen} cannot be listened on; another program may have the port",
            ) from error
        self.parts.start()
        await self._server.start()
        log.info(
            "listening",
            extra={
                "fields": {
                    "listen": self._config.listen,
                    "port": port,
                    "ollama": self._config.ollama_base_url,
                }
            },
        )
        return port

    async def drain(self) -> None:
        """Say NOT_SERVING, let balancers notice, let what runs finish, cut what does not, and close. Once."""
        if self.parts.readiness.draining:
            return
        self.parts.readiness.drain()
        log.info(
            "draining",
            extra={
                "fields": {
                    "lame_duck_s": self._config.lame_duck_s,
                    "grace_s": self._config.drain_grace_s,
                }
            },
        )
        await self._unless_hurried(asyncio.sleep(self._config.lame_duck_s))
        calls = self.parts.calls
        calls.end(*DRAINING, idle_only=True)
        # One stop, never a second beside it: two at once crashed grpcio 1.85.1 on Python 3.13.
        stopping = asyncio.create_task(
            self._server.stop(self._config.drain_grace_s + CUT_TIMEOUT_S)
        )
        await self._unless_hurried(calls.wait(self._config.drain_grace_s))
        calls.end(*DRAINING)
        await stopping
        await calls.wait(CUT_TIMEOUT_S)  # gRPC returns before what it cut has cleaned up
        await self.parts.close()

    def hurry(self) -> None:
        """Wait for nothing any more: a drain under way cuts what still runs, with a status."""
        self._hurried.set()

    async def _unless_hurried(self, step: Coroutine[None, None, object]) -> None:
        tasks = asyncio.create_task(step), asyncio.create_task(self._hurried.wait())
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
