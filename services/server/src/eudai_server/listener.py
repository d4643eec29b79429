"""Listens with gRPC on one address, and goes on listening where gRPC's own server ends by a defect.

grpc.aio accepts calls in one task. An exception in it closes the port and leaves the process alive,
which no supervisor of processes can see.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc

from eudai_server.rpc.message_reader import MESSAGE_BYTES_MAX

METADATA_BYTES_MAX = 16 << 10
PENDING_CALLS_MAX = 400
# The task of grpc.aio that accepts calls.
ACCEPTS = "AioServer._server_main_loop"
LISTEN_TIMEOUT_S = 1.0
LISTEN_RETRY_S = 0.02

log = logging.getLogger(__name__)

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How soon a client that went silent is given up."""

    # Without a sign of it, it is asked for one after the first, and has the second to answer.
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    # It answers, but does not read: gRPC has taken some megabytes for it by then.
    write_timeout_s: float = 30.0


DEFAULT_PATIENCE = Patience()


def options_for(patience: Patience) -> Options:
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
        # What a stream sends before anybody reads it is 64 KiB at most, as long as gRPC does not
        # let that grow with the speed of the connection.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_concurrent_streams", 100),  # for each connection
        ("grpc.max_allowed_incoming_connections", 1024),
        # Calls that have arrived and that no code of ours has seen yet. Each takes 14 KiB of gRPC's
        # and up to 64 KiB of its message. gRPC cancels what is over the limit, which by default is
        # between 1,000 and 3,000.
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
        (
            "grpc.server_handshake_timeout_ms",
            5_000,
        ),  # two minutes by default: an open door for slow clients
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
    )


class ListenError(Exception):
    """The server ended by itself and could not be started again."""


class Listener:
    """A gRPC server on one address, from `start` to `stop`."""

    def __init__(
        self, make_server: Callable[[Options], grpc.aio.Server], patience: Patience
    ) -> None:
        """`make_server` returns a new server with everything registered."""
        self._make_server = make_server
        self._options = options_for(patience)
        self._server: grpc.aio.Server | None = None
        # Of the server now: whichever is done first says that it has ended.
        self._ends: list[asyncio.Task[None]] = []
        self._supervising: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self, address: str) -> int:
        """Listen; returns the port. Raises RuntimeError where the address cannot be had."""
        port = await self._listen(address)
        if not address.startswith("unix:"):
            address = f"{address.rpartition(':')[0]}:{port}"
        self._supervising = asyncio.create_task(self._supervise(address), name="supervise")
        return port

    async def stop(self, grace_s: float) -> None:
        """Accept no more calls, and cut after the grace what still runs. Call it once.

        Two stops at once crashed grpcio 1.85.1 on Python 3.13.
        """
        self._stopping = True
        if self._server:
            await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return once it was stopped. Raises ListenError where it ended in another way."""
        if self._supervising:
            await asyncio.shield(self._supervising)

    async def _listen(self, address: str) -> int:
        before = asyncio.all_tasks()
        server = self._make_server(self._options)
        port = server.add_insecure_port(address)
        await server.start()
        self._server = server
        self._ends = [asyncio.create_task(_termination(server), name="termination")]
        # gRPC tells that its accepting task has failed only once every connection has closed,
        # which a client can delay by 10 s; the task itself ends at once.
        self._ends += [task for task in asyncio.all_tasks() - before if ACCEPTS in repr(task)]
        return port

    async def _supervise(self, address: str) -> None:
        while True:
            await asyncio.wait(self._ends, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await self._ends[0]
                return
            log.error("the gRPC server stopped unexpectedly; restarting it")
            await self._listen_again(address)

    async def _listen_again(self, address: str) -> None:
        """Have the port again, which the server that failed may hold for a moment."""
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
    with suppress(Exception):  # what it failed by is in gRPC's own log
        await server.wait_for_termination()
