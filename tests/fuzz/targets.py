"""What the fuzzer calls with any bytes. Each raises only if the server would do something wrong."""

import asyncio
import atexit
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import grpc
import httpx
from eudai.v1 import generation_service_pb2 as pb
from eudai_server.core.credentials_file import CredentialsFile, CredentialsFileError
from eudai_server.core.errors import ServiceError
from eudai_server.core.events import Delta
from eudai_server.ollama.transport.connection import Connection
from eudai_server.ollama.wire.generation_stream import StreamDecoder
from eudai_server.rpc.access.authenticator import Authenticator
from eudai_server.rpc.access.credentials import Credentials
from eudai_server.rpc.access.jwts import JwtRules, Jwts
from eudai_server.rpc.access.tokens import Tokens, entries_from
from eudai_server.rpc.wire.generation_request import generation_from
from eudai_server.rpc.wire.parsing import parse
from grpc_health.v1 import health_pb2, health_pb2_grpc
from http2_frames import PREFACE
from processes import free_port

RULES = JwtRules(
    issuer="i", audience="a", scopes_claim="scope", models_claim="models", limits_claim="limits"
)
ANSWER_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 0.1
CORPUS = Path(__file__).parent / "corpus"

_loop = asyncio.new_event_loop()


def ndjson(data: bytes) -> None:
    """Ollama's answer, at once and in two pieces: the same text and the same failure."""
    cut = data[0] if data else 0
    decoded = [_decoded([data]), _decoded([data[:cut], data[cut:]])]
    if decoded[0] != decoded[1]:
        raise AssertionError(decoded)


def _decoded(pieces: list[bytes]) -> tuple[str, str]:
    decoder = StreamDecoder("m", has_tools=True)
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()
    text = "".join(event.text for event in events if isinstance(event, Delta))
    if (decoder.failure is None) is (decoder.finished is None):
        raise AssertionError("an answer must either fail or finish")
    return text, decoder.failure.reason if decoder.failure else ""


def request(data: bytes) -> None:
    """A GenerateRequest of a caller."""
    try:
        message = parse(pb.GenerateRequest, data)
        generation_from(message, id="g", arrived_s=0.0, load_options=True)
    except ServiceError:
        pass


def response(data: bytes) -> None:
    """A response of Ollama over HTTP."""
    _loop.run_until_complete(_respond(data))


async def _respond(data: bytes) -> None:
    connection = Connection(has_body=True)
    connection.data_received(data)
    connection.connection_lost(None)
    try:
        await connection.read_head()
        async for _ in connection:
            pass
    except httpx.TransportError:
        pass
    finally:
        connection.close()


def credentials(data: bytes) -> None:
    """A tokens file, and a key set."""
    with suppress(CredentialsFileError):
        Tokens(entries_from(data)).find("eudai_0", 0.0)
    with suppress(CredentialsFileError):
        Jwts(data, RULES).find("a.b.c", 0.0)


def bearer(data: bytes) -> None:
    """The credential of a stranger."""
    metadata = [("authorization", data.decode("latin-1"))]
    with suppress(ServiceError):
        _authenticator().authenticate(metadata, "peer")


@cache
def _authenticator() -> Authenticator:
    """An authenticator with a token and a key."""
    folder = Path(tempfile.mkdtemp(prefix="eudai-fuzz-"))
    for name in ("tokens", "keys"):
        (folder / name).write_bytes((CORPUS / "credentials" / name).read_bytes())
    files: list[CredentialsFile[Credentials]] = [
        CredentialsFile(folder / "tokens", lambda data: Tokens(entries_from(data))),
        CredentialsFile(folder / "keys", lambda data: Jwts(data, RULES)),
    ]
    return Authenticator(files)


def frames(data: bytes) -> None:
    """Frames of HTTP/2, to a real server, which must go on answering others."""
    port, stub = _server()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) as connection,
        suppress(OSError),
    ):
        connection.sendall(PREFACE + data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(READ_TIMEOUT_S)
        while connection.recv(65536):
            pass
    stub.Check(
        health_pb2.HealthCheckRequest(service="liveness"),
        timeout=ANSWER_TIMEOUT_S,
        wait_for_ready=True,
    )


# The server gets SIGTERM when its parent ends, which the fuzzer does without any clean-up.
SERVER = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 15)
from eudai_server.__main__ import main
sys.exit(main())
"""


@cache
def _server() -> tuple[int, health_pb2_grpc.HealthStub]:
    """Start a server, which ends with this process."""
    port = free_port()
    log = Path(tempfile.mkdtemp(prefix="eudai-fuzz-")) / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={"EUDAI_LISTEN": f"127.0.0.1:{port}", "OLLAMA_BASE_URL": "http://127.0.0.1:9"},
            stderr=file,
        )
    atexit.register(_end, process)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    grpc.channel_ready_future(channel).result(timeout=30)
    return port, health_pb2_grpc.HealthStub(channel)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (ndjson, request, response, credentials, bearer, frames)
}
