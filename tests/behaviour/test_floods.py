"""What strangers send to exhaust a server: half-open connections and messages, bombs, and floods.

Each test attacks a server in a process of its own, to which the attacker presents no credential.
Others must be answered during and after the attack, and memory must not grow much. S2, S12 and S13
are rows of docs/security.md.
"""

import asyncio
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from certificates import Authority
from eudai.v1 import server_service_pb2 as pb, server_service_pb2_grpc as rpc
from http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    headers_block,
)
from load import in_background
from processes import BIN, free_port
from tokens_file import Metadata, TokensFile

pytestmark = pytest.mark.slow

MIB = 1 << 20
FLOOD_S = 2.0
# After a flood, calls that had arrived before are still being answered.
SETTLE_S = 1.0
RECOVERY_S = 10.0
# The server closes a connection whose handshake takes more than 5 s.
CLOSED_TIMEOUT_S = 20.0
# gRPC refuses further ones.
CONNECTIONS_MAX = 1024


@dataclass(frozen=True)
class Target:
    """A server under attack."""

    port: int
    process: psutil.Process
    token: Metadata
    # Of a server with TLS.
    ca: bytes | None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection without TLS on which the attacker has said nothing yet."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answers(self, timeout_s: float = 10.0) -> float:
        """How long a call of another caller takes, with a new connection, in seconds."""
        begin_s = time.monotonic()
        async with self.channel() as channel:
            await rpc.ServerServiceStub(channel).GetServerInfo(
                pb.GetServerInfoRequest(),
                metadata=self.token,
                timeout=timeout_s,
                wait_for_ready=True,
            )
        return time.monotonic() - begin_s

    def rss_bytes(self) -> int:
        """The memory of the server. Begins a new peak."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return int(self.process.memory_info().rss)

    def peak_bytes(self) -> int:
        """The most memory that the server has had since `rss_bytes`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def channel(self) -> grpc.aio.Channel:
        """A new connection of another caller."""
        address = f"localhost:{self.port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self.ca:
            return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(self.ca), options)
        return grpc.aio.insecure_channel(address, options)


@asynccontextmanager
async def target(folder: Path, *, tls: bool = False) -> AsyncIterator[Target]:
    """A server with tokens, without an Ollama."""
    tokens = TokensFile(folder / "tokens.json")
    token = tokens.add()
    port = free_port()
    env = {"EUDAI_LISTEN": f"127.0.0.1:{port}", "EUDAI_TOKENS_FILE": str(tokens.path)}
    env |= {"OLLAMA_BASE_URL": "http://127.0.0.1:9", "EUDAI_LAME_DUCK": "0"}
    ca = None
    if tls:
        authority = Authority()
        ca, pair = authority.pem, authority.issue()
        for name, data in (("cert", pair.cert), ("key", pair.key)):
            (folder / name).write_bytes(data)
            env[f"EUDAI_TLS_{name.upper()}"] = str(folder / name)
    server = BIN / "eudai-server"
    process = await asyncio.create_subprocess_exec(
        server, env={**os.environ, **env}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        attacked = Target(port, psutil.Process(process.pid), token, ca)
        await attacked.answers(30)
        yield attacked
        assert process.returncode is None
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


def begun_call(stream: int) -> bytes:
    """The headers of a Generate call without a credential."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/eudai.v1.GenerationService/Generate",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return frame(HEADERS, headers_block(fields), END_HEADERS, stream)


async def test_half_open_messages_of_strangers_cost_little(tmp_path: Path) -> None:
    async with target(tmp_path) as attacked:
        before = attacked.rss_bytes()
        writers = []
        for _ in range(20):
            _, writer = await attacked.connect()
            writer.write(PREFACE + frame(SETTINGS))
            for number in range(50):
                prefix = struct.pack(">BI", 0, 30 * MIB)
                stream = 2 * number + 1
                writer.write(begun_call(stream) + frame(DATA, prefix + b"x" * 900, 0, stream))
            await writer.drain()
            writers.append(writer)
        waits = [await attacked.answers() for _ in range(5)]
        grown = attacked.peak_bytes() - before
        for writer in writers:
            writer.close()

    print(json.dumps({"waits_s": [round(wait, 3) for wait in waits], "grown_mib": grown >> 20}))
    assert len(waits) == 5
    assert grown <= 32 * MIB


@pytest.mark.parametrize("count", [CONNECTIONS_MAX // 2, 2 * CONNECTIONS_MAX])
@pytest.mark.parametrize("tls", [False, True])
async def test_half_open_connections_are_closed_and_others_connect(
    tmp_path: Path, *, tls: bool, count: int
) -> None:
    """S13, with fewer connections than gRPC accepts, and with more.

    With more, others connect only when gRPC has closed the first ones.
    """
    async with target(tmp_path, tls=tls) as attacked:
        begin_s = time.monotonic()
        opened = await asyncio.gather(*(attacked.connect() for _ in range(count)))
        for _, writer in opened:
            writer.write(b"\x16\x03\x01" if tls else PREFACE[:10])
        wait_s = await attacked.answers(CLOSED_TIMEOUT_S)
        async with asyncio.timeout(CLOSED_TIMEOUT_S):
            for reader, _ in opened:
                with suppress(ConnectionError):
                    await reader.read()
        closed_s = time.monotonic() - begin_s
        for _, writer in opened:
            writer.close()

    print(json.dumps({"connect_s": round(wait_s, 3), "all_closed_s": round(closed_s, 3)}))
    assert closed_s < CLOSED_TIMEOUT_S


async def test_a_compressed_message_that_expands_is_refused(tmp_path: Path) -> None:
    """S2: 100 MiB of zeros arrive as 100 KiB."""
    codes = []
    async with target(tmp_path) as attacked:
        before = attacked.rss_bytes()
        for metadata in [(), attacked.token] * 2:
            async with attacked.channel() as channel:
                generate: Any = channel.stream_stream(
                    "/eudai.v1.GenerationService/Generate", request_serializer=bytes
                )
                bomb = bytes(100 * MIB)
                call = generate(
                    iter([bomb]), metadata=metadata, compression=grpc.Compression.Gzip, timeout=30
                )
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await call.read()
                codes.append(failure.value.code())
        waits = [await attacked.answers() for _ in range(3)]
        grown = attacked.peak_bytes() - before

    print(json.dumps({"waits_s": [round(wait, 3) for wait in waits], "grown_mib": grown >> 20}))
    refused = [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert codes == refused * 2
    assert len(waits) == 3
    assert grown <= 32 * MIB


def _reset(stream: int) -> bytes:
    return begun_call(stream) + frame(RST_STREAM, struct.pack(">I", 8), 0, stream)


def _made_you_reset(stream: int) -> bytes:
    """A frame that makes the server reset the stream: a window that overflows."""
    overflow = struct.pack(">I", 2**31 - 1)
    return begun_call(stream) + frame(WINDOW_UPDATE, overflow, 0, stream)


def _empty_data(stream: int) -> bytes:
    begun = begun_call(1) if stream == 1 else b""
    return begun + frame(DATA, b"", 0, 1)


def _continuation(stream: int) -> bytes:
    begun = frame(HEADERS, headers_block({":method": "POST"}), 0, 1) if stream == 1 else b""
    return begun + frame(CONTINUATION, b"", 0, 1)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset": _reset,
    "MadeYouReset": _made_you_reset,
    "ping": lambda _stream: frame(PING, bytes(8)),
    "settings": lambda _stream: frame(SETTINGS, struct.pack(">HI", 4, 65535)),
    "empty DATA": _empty_data,
    "CONTINUATION": _continuation,
    "priority": lambda stream: frame(PRIORITY, struct.pack(">IB", 0, 1), 0, stream),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_does_not_stop_the_server(tmp_path: Path, kind: str) -> None:
    """S12: the attacker connects again whenever the server closes its connection.

    Only a flood of calls that are reset may have calls of others cancelled.
    """
    frames = 0

    async def attack() -> None:
        nonlocal frames
        while True:
            with suppress(ConnectionError):
                reader, writer = await attacked.connect()
                draining = asyncio.create_task(reader.read(64 * MIB))
                try:
                    writer.write(PREFACE + frame(SETTINGS))
                    stream = 1
                    while not writer.is_closing() and not draining.done():
                        batch = range(stream, stream + 200, 2)
                        writer.write(b"".join(map(FLOODS[kind], batch)))
                        frames += len(batch)
                        stream += 200
                        await writer.drain()
                        await asyncio.sleep(0)
                finally:
                    draining.cancel()
                    writer.close()

    async with target(tmp_path) as attacked:
        before = attacked.rss_bytes()
        waits: list[float] = []
        cancelled = 0
        async with in_background(attack()):
            end_s = time.monotonic() + FLOOD_S
            while time.monotonic() < end_s or not waits:
                try:
                    waits.append(await attacked.answers(30))
                except grpc.aio.AioRpcError as error:
                    # gRPC cancels calls if too many have not reached a handler, whosever they are.
                    if error.code() is not grpc.StatusCode.CANCELLED:
                        raise
                    cancelled += 1
        async with asyncio.timeout(RECOVERY_S):
            await asyncio.sleep(SETTLE_S)
            after_s = await attacked.answers()
        grown = attacked.peak_bytes() - before

    figures: dict[str, float] = {"frames": frames, "answered": len(waits), "cancelled": cancelled}
    figures |= {"worst_s": round(max(waits), 3), "after_s": round(after_s, 3)}
    print(json.dumps({"kind": kind, **figures, "grown_mib": grown >> 20}))
    assert frames > 1_000
    assert cancelled == 0 or "reset" in kind.lower()
    assert grown <= 64 * MIB
