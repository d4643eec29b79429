"""An HTTP/2 client for streams that no gRPC client sends: endless messages, paths not in UTF-8.

    python http2_client.py ADDRESS MESSAGE_BYTES SECONDS

As a program, it repeatedly begins many messages that stop one byte early, and prints how the calls
ended. In its own process it does not delay the callers that a test observes.
"""

import asyncio
import json
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events

READ_BYTES = 64 << 10
# Complete, they would be 192 MiB. The server keeps three of them.
MESSAGES = 24
KEPT = 3
PATH = "/eudai.v1.GenerationService/Generate"


class Http2Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # h2's checks would refuse the frames that these tests send.
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._http2 = h2.connection.H2Connection(config)
        self._http2.initiate_connection()
        self._pending: dict[int, int] = {}
        # By stream: the trailers once it has ended; "" if it was reset without any.
        self.ended: dict[int, dict[str, str]] = {}

    async def request(self, path: bytes = PATH.encode(), *, unfinished_bytes: int = 0) -> int:
        """Begin a call, and return its stream.

        The message announces one byte more than `unfinished_bytes`. These are sent as fast as the
        server accepts them, while `run` runs.
        """
        stream = self._http2.get_next_available_stream_id()
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        self._http2.send_headers(stream, headers)
        if unfinished_bytes:
            self._http2.send_data(stream, struct.pack(">BI", 0, unfinished_bytes + 1))
            self._pending[stream] = unfinished_bytes
        await self._flush()
        return stream

    async def run(self) -> None:
        """Send pending data and receive frames until the connection ends."""
        while data := await self._reader.read(READ_BYTES):
            for event in self._http2.receive_data(data):
                self._take(event)
            for stream in list(self._pending):
                self._send(stream)
            await self._flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                fields = dict(_text_of(event.headers or ()))
                if "grpc-status" in fields:
                    self.ended[event.stream_id or 0] = fields
                    self._pending.pop(event.stream_id or 0, None)
            case h2.events.StreamReset():
                self.ended.setdefault(event.stream_id or 0, {})
                self._pending.pop(event.stream_id or 0, None)
            case _:
                pass

    def _send(self, stream: int) -> None:
        while self._pending.get(stream):
            window = self._http2.local_flow_control_window(stream)
            size = min(window, self._http2.max_outbound_frame_size, self._pending[stream])
            if size <= 0:
                return
            self._http2.send_data(stream, bytes(size))
            self._pending[stream] -= size

    async def _flush(self) -> None:
        self._writer.write(self._http2.data_to_send())
        await self._writer.drain()


def _text_of(headers: object) -> Iterator[tuple[str, str]]:
    for name, value in headers:  # type: ignore[attr-defined]
        yield _decoded(name), _decoded(value)


def _decoded(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


@asynccontextmanager
async def http2_to(address: str) -> AsyncIterator[Http2Client]:
    """Open a connection, and run it until the end of the block."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = Http2Client(reader, writer)
    running = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        writer.transport.abort()


async def hold_messages(address: str, message_bytes: int, end_s: float) -> Counter[str]:
    """Begin messages that never end; return by status how those without a place ended."""
    ended: Counter[str] = Counter()
    while time.monotonic() < end_s:
        async with http2_to(address) as raw:
            for _ in range(MESSAGES):
                await raw.request(unfinished_bytes=message_bytes - 1)
            async with asyncio.timeout(10):
                while len(raw.ended) < MESSAGES - KEPT:
                    await asyncio.sleep(0.001)
        ended.update(f"grpc-status {trailers['grpc-status']}" for trailers in raw.ended.values())
    return ended


if __name__ == "__main__":
    to, size, seconds = sys.argv[1:]
    held = asyncio.run(hold_messages(to, int(size), time.monotonic() + float(seconds)))
    print(json.dumps(held))
