"""Uploads of files: their digest, and the limits for a silent client or a silent Ollama."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from eudai.v1 import model_service_pb2 as pb, model_service_pb2_grpc as rpc
from eudai_server.ollama import upload
from eudai_server.rpc.transport import message_reader
from refusal import Refusal, refused
from scripted_ollama import Exchange, Script, ScriptedOllama, reply
from serving import config_for, serving

DIGEST = "sha256:" + "ab" * 32
HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def pieces(digest: str, *datas: bytes) -> Any:
    """The messages of an upload."""

    async def send() -> AsyncIterator[pb.UploadBlobRequest]:
        yield pb.UploadBlobRequest(digest=digest)
        for data in datas:
            yield pb.UploadBlobRequest(data=data)

    return send()


@pytest.mark.parametrize(
    ("digest", "script", "fields"),
    [
        (DIGEST, reply(201, ""), ["digest"]),
        ("sha256:nonsense", reply(201, ""), ["digest"]),
        ("", reply(201, ""), ["digest"]),
    ],
)
async def test_data_with_another_digest_is_refused(
    admin: Any, ollama: ScriptedOllama, digest: str, script: Script, fields: list[str]
) -> None:
    def answer(exchange: Exchange) -> Script:
        return script if exchange.headers.get("transfer-encoding") else reply(404, "")

    ollama.scripts[f"/api/blobs/{digest}"] = answer

    assert (await refused(admin.UploadBlob(pieces(digest, b"hel", b"lo")))).fields == fields


async def test_a_file_that_ollama_has_is_not_sent_again(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts[f"/api/blobs/{HELLO}"] = reply(200, "")
    answer = await admin.UploadBlob(pieces(HELLO, b"hello"))

    assert answer.existed
    assert len(ollama.sent_to(f"/api/blobs/{HELLO}")) == 1


def absent(exchange: Exchange) -> Script:
    """Answer as an Ollama that does not have the file and accepts it."""
    return reply(201 if exchange.headers.get("transfer-encoding") else 404, "")


async def test_a_file_is_uploaded(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts[f"/api/blobs/{HELLO}"] = absent
    answer = await admin.UploadBlob(pieces(HELLO, b"hel", b"lo"))

    assert (answer.size_bytes, answer.existed) == (5, False)


async def test_the_upload_of_a_silent_client_ends_with_a_status(
    admin: Any, ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_reader, "TIMEOUT_S", 0.3)
    ollama.scripts[f"/api/blobs/{HELLO}"] = absent

    async def stalled() -> AsyncIterator[pb.UploadBlobRequest]:
        yield pb.UploadBlobRequest(digest=HELLO, data=b"hel")
        await asyncio.sleep(60)

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await asyncio.wait_for(admin.UploadBlob(stalled()), 20)

    assert failure.value.code() is grpc.StatusCode.CANCELLED
    assert "the client did not send a complete message" in str(failure.value.details())


async def test_a_file_over_the_limit_is_refused(
    admin: Any, ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "GIB", 1)
    ollama.scripts[f"/api/blobs/{DIGEST}"] = absent
    failure = await refused(admin.UploadBlob(pieces(DIGEST, b"x" * 512, b"x")))

    assert failure.fields == ["data"]
    assert "EUDAI_MAX_UPLOAD" in str(failure.message)


async def test_a_slow_upload_is_ended(
    admin: Any, ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "SLOW_AFTER_S", 0.2)
    ollama.scripts[f"/api/blobs/{DIGEST}"] = absent

    async def trickle() -> AsyncIterator[pb.UploadBlobRequest]:
        yield pb.UploadBlobRequest(digest=DIGEST)
        for _ in range(1000):
            yield pb.UploadBlobRequest(data=b"x")
            await asyncio.sleep(0.02)

    failure = await asyncio.wait_for(refused(admin.UploadBlob(trickle())), 15)

    assert failure.reason == "QUOTA_EXCEEDED"
    assert "slower than 16 KiB a second" in str(failure.message)


async def test_a_malformed_piece_is_an_invalid_request(ollama: ScriptedOllama) -> None:
    ollama.scripts[f"/api/blobs/{HELLO}"] = absent
    first = pb.UploadBlobRequest(digest=HELLO, data=b"hel").SerializeToString()
    async with serving(config_for(ollama.url, admin=True)) as server:
        await server.until("", "SERVING")
        send = server.channel.stream_unary("/eudai.v1.ModelService/UploadBlob")
        failure = await refused(send([first, b"\xff\xff"]))

    assert failure.reason == "INVALID_REQUEST"


async def test_an_upload_fails_if_ollama_does_not_answer(ollama: ScriptedOllama) -> None:
    ollama.scripts[f"/api/blobs/{HELLO}"] = lambda exchange: (
        [60.0] if exchange.headers.get("transfer-encoding") else reply(404, "")
    )
    failure = await upload_to(ollama.url, b"hel", b"lo")

    assert failure.reason == "BACKEND_STALLED"


async def test_an_upload_fails_if_ollama_does_not_read() -> None:
    done, closed = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer other requests, but do not read the file."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            cast("asyncio.Transport", writer.transport).pause_reading()
            await done.wait()
            closed.set()
        elif head.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        else:
            body = b'{"models":[{"name":"m"}]}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with await asyncio.start_server(deaf, sock=listener):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            failure = await upload_to(url, b"x" * (6 << 20), b"x" * (6 << 20))
            done.set()
            await closed.wait()

    assert failure.reason == "BACKEND_STALLED"


async def upload_to(url: str, *datas: bytes) -> Refusal:
    """Upload to this address; the upload must fail while the server waits for Ollama."""
    config = config_for(url, admin=True, first_event_timeout_s=0.5)
    async with serving(config) as server, asyncio.timeout(20):
        await server.until("", "SERVING")
        stub = rpc.ModelServiceStub(server.channel)
        return await refused(stub.UploadBlob(pieces(HELLO, *datas)))
