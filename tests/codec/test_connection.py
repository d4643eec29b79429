"""The HTTP connection to Ollama: any cut of a response gives the same body, and nothing grows.

The connection gets bytes from the test in place of a socket.
"""

import asyncio
import gc
import socket
import weakref
from contextlib import suppress

import httpx
import pytest
from eudai_server.ollama.transport.connection import (
    BUFFER_BYTES_MAX,
    GATHERED_BYTES_MAX,
    OVERHEAD_BYTES_MAX,
    Connection,
)
from hypothesis import given, settings, strategies as st

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
READ_S = 0.05


class FakeSocket(asyncio.Transport):
    """Records what a connection does to its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = self.paused = False
        self.written = b""
        # The last value of SO_RCVLOWAT.
        self.held_back = 1

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return itself as the socket."""
        return self if name == "socket" else default

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Keep the option."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        self.held_back = value

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what was written."""
        self.written += bytes(data)

    def abort(self) -> None:
        """Record it."""
        self.aborted = True

    def is_closing(self) -> bool:
        """Whether it was aborted: its file descriptor may then be another connection's."""
        return self.aborted

    def pause_reading(self) -> None:
        """Record it."""
        self.paused = True

    def resume_reading(self) -> None:
        """Record it."""
        self.paused = False


def connected(*, has_body: bool = True) -> tuple[Connection, FakeSocket]:
    connection, transport = Connection(has_body=has_body), FakeSocket()
    connection.connection_made(transport)
    return connection, transport


def feed(connection: Connection, data: bytes, cuts: list[int]) -> None:
    """Pass bytes to the connection in pieces of these lengths, and the rest at once."""
    begin = 0
    for length in cuts:
        if begin < len(data):
            connection.data_received(data[begin : begin + length])
            begin += length
    if begin < len(data):
        connection.data_received(data[begin:])


async def body_of(connection: Connection) -> bytes:
    await connection.read_head()
    return b"".join([data async for data in connection])


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(1, 30), max_size=60),
    st.sampled_from(["chunked", "length", "close"]),
)
async def test_any_cut_of_a_response_gives_the_same_body(
    pieces: list[bytes], cuts: list[int], framing: str
) -> None:
    body = b"".join(pieces)
    response = {
        "chunked": CHUNKED + chunked(pieces),
        "length": HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        "close": HEAD + b"\r\n" + body,
    }[framing]
    connection, _ = connected()
    feed(connection, response, cuts)
    if framing == "close":
        connection.connection_lost(None)

    assert await body_of(connection) == body
    assert connection.status == httpx.codes.OK


@settings(max_examples=300)
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda at, junk: (CHUNKED + chunked([b"x" * 20, b"y"]))[:at] + junk,
        st.integers(0, 120),
        st.binary(max_size=80),
    ),
    st.lists(st.integers(1, 30), max_size=20),
)
async def test_any_bytes_end_in_a_body_or_a_transport_error(data: bytes, cuts: list[int]) -> None:
    connection, _ = connected()
    feed(connection, data, cuts)
    connection.connection_lost(None)
    with suppress(httpx.TransportError):
        async with asyncio.timeout(READ_S):
            await body_of(connection)
            assert connection.status


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3 * OVERHEAD_BYTES_MAX,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * OVERHEAD_BYTES_MAX,
        b"HTTP/1.1 100 Continue\r\n\r\n" * OVERHEAD_BYTES_MAX,
        CHUNKED + b"1;" + b"x" * 3 * OVERHEAD_BYTES_MAX,
        CHUNKED + b"0\r\nX: " + b"x" * 3 * OVERHEAD_BYTES_MAX,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * OVERHEAD_BYTES_MAX,
    ],
    ids=["header", "headers", "informational", "chunk extension", "trailer", "trailers"],
)
async def test_bytes_that_are_not_body_are_limited(response: bytes) -> None:
    connection, transport = connected()
    feed(connection, response, [1000] * (len(response) // 1000))

    assert transport.aborted
    with pytest.raises(httpx.RemoteProtocolError):
        await body_of(connection)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nxx",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n",
        CHUNKED + b"3\r\nabcd\r\n",
    ],
)
async def test_a_response_that_is_not_valid_http_fails(response: bytes) -> None:
    connection, transport = connected()
    connection.data_received(response)

    assert transport.aborted
    with pytest.raises(httpx.RemoteProtocolError):
        await body_of(connection)


async def test_informational_responses_precede_the_real_one() -> None:
    connection, _ = connected()
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" + early + CHUNKED + chunked([b"a"]))

    assert await body_of(connection) == b"a"
    assert [name for name, _ in connection.headers] == [b"content-type", b"transfer-encoding"]


async def test_a_second_response_is_ignored() -> None:
    connection, _ = connected()
    connection.data_received(CHUNKED + chunked([b"a"]) + CHUNKED + chunked([b"b"]))

    assert await body_of(connection) == b"a"


async def test_the_response_to_head_has_no_body() -> None:
    connection, _ = connected(has_body=False)
    connection.data_received(HEAD + b"Content-Length: 7\r\n\r\n")

    assert await body_of(connection) == b""


async def test_a_status_without_a_body_ends_with_its_head() -> None:
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert await body_of(connection) == b""


async def test_a_body_that_is_not_read_stops_the_socket() -> None:
    connection, transport = connected()
    connection.data_received(CHUNKED + b"%x\r\n" % (4 * BUFFER_BYTES_MAX))
    connection.data_received(b"x" * BUFFER_BYTES_MAX)
    was_paused = transport.paused
    connection.data_received(b"x")

    assert not was_paused
    assert transport.paused
    assert len(await connection.read()) == BUFFER_BYTES_MAX + 1
    assert not transport.paused


async def served(pieces: list[bytes], pause_s: float) -> tuple[Connection, asyncio.Server]:
    """A connection to a real server that sends these pieces, then closes."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(has_body=True), "127.0.0.1", port
    )
    return connection, server


async def test_gathered_bytes_are_read_together() -> None:
    letters = [b"1\r\n%c\r\n" % letter for letter in b"abcdefgh"]
    connection, server = await served([CHUNKED, *letters, b"0\r\n\r\n"], 0.01)
    async with server:
        await connection.read_head()
        reads: list[bytes] = []
        while not reads or reads[-1]:
            await connection.gather(0.05)
            reads.append(await connection.read(5))
        connection.close()

    assert b"".join(reads) == b"abcdefgh"
    assert len(reads) < len(letters)


async def test_gathering_ends_when_ollama_closes_the_connection() -> None:
    connection, server = await served([CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"], 0.01)
    async with server:
        await connection.read_head()
        async with asyncio.timeout(5):
            await connection.gather(60)
            assert await connection.read() == b"ab"
            await connection.gather(60)
            assert await connection.read() == b""
        connection.close()


async def test_gathering_ends_if_much_has_arrived_or_the_connection_breaks() -> None:
    for end in ("full", "lost"):
        connection, transport = connected()
        connection.data_received(CHUNKED + b"%x\r\n" % (2 * GATHERED_BYTES_MAX))
        gathering = asyncio.create_task(connection.gather(60))
        await asyncio.sleep(0)
        assert transport.held_back == GATHERED_BYTES_MAX
        if end == "full":
            connection.data_received(b"x" * (GATHERED_BYTES_MAX + 1))
        else:
            connection.connection_lost(ConnectionResetError())
        async with asyncio.timeout(5):
            await gathering


async def test_a_read_without_gathering_gets_every_byte_at_once() -> None:
    connection, transport = connected()
    connection.data_received(CHUNKED)
    for gathers in (True, False):
        if gathers:
            await connection.gather(0.001)
        reading = asyncio.create_task(connection.read())
        await asyncio.sleep(0)
        assert transport.held_back == 1
        connection.data_received(b"1\r\na\r\n")
        assert await reading == b"a"

    assert transport.held_back == 1


async def test_a_deadline_moves_with_every_read() -> None:
    connection, _ = connected()
    connection.data_received(CHUNKED)
    for _ in range(3):
        asyncio.get_running_loop().call_later(READ_S, connection.data_received, b"1\r\na\r\n")
        assert await connection.read(2 * READ_S) == b"a"
    with pytest.raises(httpx.ReadTimeout):
        await connection.read(READ_S)


async def test_a_shorter_deadline_replaces_a_longer_one() -> None:
    connection, _ = connected()
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    asyncio.get_running_loop().call_later(READ_S, connection.data_received, b"1\r\nb\r\n")
    await connection.read(60)
    await connection.read(60)
    with pytest.raises(httpx.ReadTimeout):
        async with asyncio.timeout(5):
            await connection.read(READ_S)


async def test_a_closed_connection_is_freed_without_a_garbage_collection() -> None:
    connection, transport = connected()
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    await connection.read(60)
    connection.close()
    freed = weakref.ref(connection)
    gc.disable()
    try:
        del connection, transport
        assert freed() is None
    finally:
        gc.enable()


async def test_a_refused_upload_is_not_sent_to_its_end() -> None:
    connection, transport = connected()
    connection.pause_writing()
    sending = asyncio.create_task(connection.write(b"x"))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await sending

    assert not transport.written
    assert connection.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE
