"""Serves gRPC on one address, and restarts if gRPC's own server ends because of a defect.

grpc.aio accepts calls in one task. An exception in that task closes the port but leaves the process
running, which a process supervisor does not notice.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc

from eudai_server.rpc.wire.parsing import MESSAGE_BYTES_MAX

METADATA_BYTES_MAX = 16 << 10
PENDING_CALLS_MAX = 1024
# The coroutine of grpc.aio that accepts calls.
ACCEPTS = "AioServer._server_main_loop"
LISTEN_TIMEOUT_S = 1.0
LISTEN_RETRY_S = 0.02
# Only the user and the group of the server may connect to a unix socket.
SOCKET_UMASK = 0o117

log = logging.getLogger(__name__)

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """The timeouts for clients that stop responding."""

    # A client that sends nothing for the first time is pinged, and has the second time to answer.
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    # For a client that answers pings but does not read. gRPC buffers some megabytes meanwhile.
    write_timeout_s: float = 30.0


DEFAULT_CLIENT_TIMEOUTS = ClientTimeouts()


def options_for(client_timeouts: ClientTimeouts) -> Options:
    """The gRPC options of a server."""
    return (
        (
            "grpc.so_reuseport",
            0,
        ),  # otherwise a second server silently takes half of the port's connections
        ("grpc.keepalive_time_ms", int(client_timeouts.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(client_timeouts.keepalive_timeout_s * 1000)),
        # Without this, a frozen client is kept for another minute.
        ("grpc.http2.ping_timeout_ms", int(client_timeouts.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_idle_ms", 15 * 60_000),
        # A stream buffers at most 64 KiB before the client reads, unless gRPC lets the window grow
        # with the speed of the connection.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_concurrent_streams", 100),  # per connection
        ("grpc.max_allowed_incoming_connections", 1024),
        # Calls that have arrived but have not reached a handler. Each takes 14 KiB in gRPC and up
        # to 64 KiB for its message. gRPC cancels calls over the limit, which by default is between
        # 1,000 and 3,000.
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
        (
            "grpc.server_handshake_timeout_ms",
            5_000,
        ),  # the default of two minutes helps slow clients to occupy the server
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    )


class ListenError(Exception):
    """The server stopped unexpectedly and could not be restarted."""


class Listener:
    """A gRPC server on one address, from `start` to `stop`."""

    def __init__(
        self,
        make_server: Callable[[Options], grpc.aio.Server],
        client_timeouts: ClientTimeouts,
        credentials: Callable[[], grpc.ServerCredentials] | None = None,
    ) -> None:
        """`make_server` returns a new server with all services registered.

        With `credentials` the server uses TLS.
        """
        self._make_server = make_server
        self._credentials = credentials
        self._options = options_for(client_timeouts)
        self._server: grpc.aio.Server | None = None
        # Tasks of the current server; it has ended when the first of them is done.
        self._ends: list[asyncio.Task[None]] = []
        self._supervising: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self, address: str) -> int:
        """Listen; returns the port. Raises RuntimeError if the address cannot be bound."""
        port = await self._listen(address)
        if not address.startswith("unix:"):
            address = f"{address.rpartition(':')[0]}:{port}"
        self._supervising = asyncio.create_task(self._supervise(address), name="supervise")
        return port

    async def stop(self, grace_s: float) -> None:
        """Stop accepting calls, and cut those that still run after the grace. Call it once.

        Two concurrent stops crashed grpcio 1.85.1 on Python 3.13.
        """
        self._stopping = True
        if self._server:
            await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return after `stop`. Raises ListenError if the server ended for another reason."""
        if self._supervising:
            await asyncio.shield(self._supervising)

    async def _listen(self, address: str) -> int:
        before = asyncio.all_tasks()
        server = self._make_server(self._options)
        umask = os.umask(SOCKET_UMASK)  # only the process can set the permissions of a new socket
        try:
            port = self._bind(server, address)
        finally:
            os.umask(umask)
        await server.start()
        self._server = server
        self._ends = [asyncio.create_task(_termination(server), name="termination")]
        # gRPC reports the failure of its accepting task only when all connections have closed,
        # which a client can delay by 10 s. The task itself ends at once.
        self._ends += [task for task in asyncio.all_tasks() - before if ACCEPTS in repr(task)]
        return port

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        if self._credentials:
            return server.add_secure_port(address, self._credentials())
        return server.add_insecure_port(address)

    async def _supervise(self, address: str) -> None:
        while True:
            await asyncio.wait(self._ends, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await self._ends[0]
                return
            log.error("the gRPC server stopped unexpectedly; restarting it")
            await self._listen_again(address)

    async def _listen_again(self, address: str) -> None:
        """Bind the port again; the failed server may hold it for a moment."""
        end_s = asyncio.get_running_loop().time() + LISTEN_TIMEOUT_S
        while not self._stopping:
            try:
                await self._listen(address)
            except RuntimeError as error:
                if asyncio.get_running_loop().time() > end_s:
                    raise ListenError(f"cannot listen on {address} again") from error
                await asyncio.sleep(LISTEN_RETRY_S)
            else:
                return


async def _termination(server: grpc.aio.Server) -> None:
    with suppress(Exception):  # gRPC has logged the failure
        await server.wait_for_termination()
