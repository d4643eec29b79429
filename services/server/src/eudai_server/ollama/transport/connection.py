"""One HTTP/1.1 connection to Ollama, which sends one request and receives its response.

httptools parses the response. What this module adds are limits: of the head, of what arrives
without a body, and of the body that waits for its reader.
"""

import asyncio
import socket
from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

import httptools
import httpx

from eudai_server.ollama.transport.deadline import Deadline

# The limit of the head, and of everything else that is not body: trailers, chunk extensions, and
# informational responses.
OVERHEAD_BYTES_MAX = 64 << 10
# If the body is not read, the socket is not read either once this many bytes wait here. The rest
# waits in Ollama.
BUFFER_BYTES_MAX = 32 << 10
# The most that gathers, before it is read even if its time is not over.
GATHERED_BYTES_MAX = 16 << 10
# A request is written in pieces of this size, because one long write would block the event loop.
PIECE_BYTES_MAX = 1 << 20


class Connection(asyncio.Protocol, httpx.AsyncByteStream):
    """A connection, and the body of its response.

    Its methods raise `httpx.ReadError` or `httpx.RemoteProtocolError` if the connection breaks
    before the response is complete, and `httpx.ReadTimeout` if Ollama takes too long. Always close
    it: closing it early stops the model.
    """

    def __init__(self, *, has_body: bool) -> None:
        """`has_body` is False for a HEAD request."""
        # 0 until the head of the response has arrived.
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._has_body = has_body
        # Whether only the end of the connection ends the body.
        self._ends_at_close = False
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._overhead_bytes = 0
        self._is_complete = False
        self._error: Exception | None = None
        self._reading_paused = False
        self._held_back = 1
        self._has_gathered = False
        self._writing_paused = False
        # The one task that waits for this connection.
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._time_out)

    def limit_head(self, timeout_s: float | None) -> None:
        """Limit the time from now until the head has arrived."""
        if timeout_s is not None:
            self._deadline.set(timeout_s)

    async def write(self, data: bytes) -> None:
        """Send a part of the request, unless the response has begun: it may refuse the rest."""
        for begin in range(0, len(data), PIECE_BYTES_MAX):
            while self._writing_paused and not (self.status or self._error):
                await self._wait()
            if self._error:
                raise self._error
            if self.status or self._transport is None:
                return
            # The usual request is one piece, which is not copied.
            self._transport.write(data[begin : begin + PIECE_BYTES_MAX])

    async def write_chunks(self, pieces: AsyncIterable[bytes]) -> None:
        """Send a body whose length is not known."""
        async for piece in pieces:
            if piece:
                await self.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await self.write(b"0\r\n\r\n")

    async def read_head(self) -> None:
        """Wait until `status` and `headers` are set."""
        while not self.status:
            if self._error:
                raise self._error
            await self._wait()
        self._deadline.clear()

    async def read(self, timeout_s: float | None = None) -> bytes:
        """The bytes of the body that have arrived since the last read; empty at the end.

        At most `timeout_s` pass until some arrive.
        """
        if not (self._chunks or self._is_complete):
            await self._receive(timeout_s)
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._chunks_bytes = 0
        if self._reading_paused:
            self._resume_reading()
        return data

    async def gather(self, limit_s: float) -> None:
        """Let more of the body arrive for `limit_s`, or until much has arrived or it has ended.

        The next `read` then returns it in one piece. The bytes gather in the kernel, which wakes
        this process at once when Ollama closes the connection.
        """
        if self._has_ended or self._chunks_bytes > GATHERED_BYTES_MAX:
            return
        self._has_gathered = True
        self._hold_back(GATHERED_BYTES_MAX)
        timer = self._loop.call_later(limit_s, self._wake)
        try:
            await self._wait()
        finally:
            timer.cancel()

    async def _receive(self, timeout_s: float | None) -> None:
        gathered, self._has_gathered = self._has_gathered, False
        self._hold_back(1)
        if timeout_s is not None:
            self._deadline.set(timeout_s)
        while not (self._chunks or self._is_complete):
            if self._error:
                raise self._error
            await self._wait()
        self._deadline.clear()
        if gathered and not self._is_complete:  # so that bytes gather while these are sent
            self._hold_back(GATHERED_BYTES_MAX)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read the body to its end."""
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection at once, whether or not the response is complete."""
        self._parser = None  # it refers to this object
        self._deadline.close()
        if self._transport:
            self._transport.abort()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a part of the response. Bytes behind its end are ignored."""
        if self._has_ended or self._parser is None:
            return
        self._overhead_bytes += len(data)  # until `on_body` finds body in it
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("Ollama's response is not valid HTTP")
        if self._overhead_bytes > OVERHEAD_BYTES_MAX:
            self._fail(f"Ollama sent {OVERHEAD_BYTES_MAX} bytes without a body")
        if self._chunks_bytes > BUFFER_BYTES_MAX:
            self._pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """End the body if it ends with the connection; otherwise it is incomplete."""
        self._transport = None
        if self._ends_at_close and not error:
            self._is_complete = True
        if not self._has_ended:
            self._error = httpx.ReadError("the connection ended before the response")
            self._error.__cause__ = error
        self._wake()

    def pause_writing(self) -> None:
        """Ollama reads slowly."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Ollama has read what was written."""
        self._writing_paused = False
        self._wake()

    # ---- called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, unless it is a trailer."""
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Set `status`. An informational response, such as 100, only precedes the real one."""
        assert self._parser  # noqa: S101 - it is calling
        if self.status:
            return  # Ollama sent a second response, which nobody reads
        status = self._parser.get_status_code()
        names = {name for name, _ in self.headers}
        if status < httpx.codes.OK:
            self.headers.clear()
        else:
            self.status = status
            self._is_complete = not self._has_body
            self._ends_at_close = not {b"content-length", b"transfer-encoding"} & names

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body for `read`."""
        if self._is_complete:
            return
        self._overhead_bytes = 0
        self._chunks.append(data)
        self._chunks_bytes += len(data)

    def on_message_complete(self) -> None:
        """End the body."""
        if self.status:
            self._is_complete = True

    # ---- inside

    @property
    def _has_ended(self) -> bool:
        return self._is_complete or self._error is not None

    def _fail(self, message: str) -> None:
        if not self._has_ended:
            self._error = httpx.RemoteProtocolError(message)
        self.close()

    def _pause_reading(self) -> None:
        if self._transport and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport:
            self._transport.resume_reading()

    def _hold_back(self, count: int) -> None:
        """Let the kernel hold back fewer bytes than `count`, unless the connection ends.

        The file descriptor of a closing transport may already be another connection's.
        """
        if self._transport and not self._transport.is_closing() and count != self._held_back:
            self._held_back = count
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVLOWAT, count
            )

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _time_out(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(httpx.ReadTimeout("Ollama sent nothing in time"))
