"""Answers of Ollama that are cut off, malformed or endless: each fails the call with a status."""

import asyncio

import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb
from refusal import Refusal
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    RESET,
    Script,
    ScriptedOllama,
    chunk,
    done,
    line,
    reply,
    stream,
)
from serving import Server, collect, text_of

HELLO = line(response="Hello", done=False)

CASES: dict[str, tuple[Script, grpc.StatusCode, str]] = {
    "ends politely without its last line": (
        stream(HELLO),
        grpc.StatusCode.UNAVAILABLE,
        "BACKEND_STREAM_INTERRUPTED",
    ),
    "is cut in a line": (
        [HEADERS_STREAM, chunk(HELLO + b'{"resp')],
        grpc.StatusCode.UNAVAILABLE,
        "BACKEND_STREAM_INTERRUPTED",
    ),
    "is reset": (
        [HEADERS_STREAM, chunk(HELLO), 0.1, RESET],
        grpc.StatusCode.UNAVAILABLE,
        "BACKEND_STREAM_INTERRUPTED",
    ),
    "has an error line": (
        stream(HELLO, line(error="SECRET")),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "has an error object": (
        stream(HELLO, line(error={"message": "SECRET"})),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "has garbage": (
        stream(HELLO, b"<html>SECRET</html>\n"),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "has invalid UTF-8": (
        stream(HELLO, b'{"response":"\xff","done":false}\n'),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "has wrong types": (
        stream(HELLO, b'{"response":7}\n'),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "is nested too deeply": (
        stream(HELLO, b"[" * 100_000 + b"\n"),
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    "is a load": (stream(HELLO, done("load")), grpc.StatusCode.INTERNAL, "BACKEND_FAILURE"),
}


@pytest.mark.parametrize("case", CASES)
async def test_an_incomplete_answer_fails_the_call_after_its_output(
    server: Server, ollama: ScriptedOllama, case: str
) -> None:
    script, code, reason = CASES[case]
    ollama.scripts["/api/generate"] = script
    call = server.generation.Generate(
        pb.GenerateRequest(model="gemma3:270m", prompt="x"), timeout=10
    )
    events = [await call.read(), await call.read()]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    refused = Refusal(failure.value)

    assert text_of(events) == "Hello"
    assert (refused.code, refused.reason) == (code, reason)
    assert refused.details["GenerationFailure"].output_sent
    assert refused.details["GenerationFailure"].phase == pb.GENERATION_PHASE_GENERATING
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"
    assert "SECRET" not in refused.message + refused.raw.decode("latin-1")


async def test_an_endless_line_fails_the_call_and_is_not_buffered(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, *[chunk(b"x" * (1 << 20))] * 20, END]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")

    assert Refusal(failure.value).reason == "BACKEND_FAILURE"


async def test_an_answer_of_another_content_type_is_refused(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = reply(200, "<html>a proxy's page</html>", "text/html")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")

    assert Refusal(failure.value).reason == "BACKEND_FAILURE"


async def test_a_redirect_is_not_followed(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [
        b"HTTP/1.1 307 Moved\r\nLocation: /api/elsewhere\r\nContent-Length: 0\r\n\r\n"
    ]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")

    assert Refusal(failure.value).reason == "BACKEND_FAILURE"
    assert not ollama.sent_to("/api/elsewhere")


async def test_an_answer_that_is_not_http_fails_the_call(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = [b"\x00\x01 nonsense\r\n\r\n"]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")

    assert Refusal(failure.value).code is grpc.StatusCode.UNAVAILABLE


async def test_bytes_after_the_last_line_are_ignored(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(HELLO, done() + b"garbage\n", b"more\n")

    assert text_of(await collect(server, prompt="x")) == "Hello"


@pytest.mark.parametrize("strange", ["\u0085", "\u2028", "\u2029", "\v", "\f", "\x1c", "\x1e"])
async def test_only_a_line_feed_ends_a_line(
    server: Server, ollama: ScriptedOllama, strange: str
) -> None:
    ollama.scripts["/api/generate"] = stream(
        b'{"response":"a%sb","done":false}\r\n\n' % _json(strange), done()
    )

    assert text_of(await collect(server, prompt="x")) == f"a{strange}b"


async def test_an_internal_cancellation_ends_with_a_status(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_: object) -> bytes:
        raise asyncio.CancelledError

    monkeypatch.setattr("eudai_server.ollama.transport.client.Answer.read", cancelled)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")

    assert Refusal(failure.value).reason == "INTERNAL"
    assert len(Refusal(failure.value).details["ErrorInfo"].metadata["incident"]) == 12


async def test_a_defect_gives_the_caller_only_an_incident_number(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> bytes:
        raise ValueError("SECRET")

    monkeypatch.setattr("eudai_server.ollama.transport.client.Answer.read", broken)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, prompt="x")
    refused = Refusal(failure.value)
    incident = refused.details["ErrorInfo"].metadata["incident"]

    assert refused.code is grpc.StatusCode.INTERNAL
    assert "SECRET" not in refused.message + refused.raw.decode("latin-1")
    assert any(
        getattr(record, "fields", {}).get("incident") == incident for record in caplog.records
    )


def _json(text: str) -> bytes:
    """JSON as Go writes it: U+0085 stays as it is, and the others are escaped."""
    return text.encode() if text == "\u0085" else f"\\u{ord(text):04x}".encode()
