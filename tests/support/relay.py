"""A TCP relay in this process, which can cut its connections or change their source address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE_BYTES = 64 << 10


class Relay:
    """Passes bytes in both directions."""

    def __init__(self, target: str, source_host: str | None = None) -> None:
        """`target` is host:port. Connections to it come from `source_host`, a loopback address."""
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._source = (source_host, 0) if source_host else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = b""
        self.address = ""

    def cut_after(self, text: bytes) -> None:
        """End each connection once this text has been passed on."""
        self._last = text

    def cut(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Cut every connection, and wait until all have ended."""
        tasks = list(self._tasks)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                writer.write(data)
                await writer.drain()
                if self._last and self._last in data:
                    break
        writer.close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side closes it, or it is cut."""
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(
                *self._target, local_addr=self._source
            )
            try:
                await asyncio.gather(
                    self._pass(reader, there_writer), self._pass(there_reader, writer)
                )
            finally:
                there_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


@asynccontextmanager
async def relaying(target: str, source_host: str | None = None) -> AsyncIterator[Relay]:
    """Start a relay on its own port."""
    relay = Relay(target, source_host)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
