"""Canaries in prompts, answers and credentials: they are in no log record and in no status."""

import asyncio
import io
from typing import Any

import grpc
import pytest
from eudai.v1 import (
    embedding_service_pb2 as embedding_pb,
    embedding_service_pb2_grpc as embedding_rpc,
    generation_service_pb2 as pb,
)
from refusal import drained
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    RESET,
    Script,
    ScriptedOllama,
    chunk,
    error,
    line,
    reply,
    stream,
    words,
)
from serving import Server

pytestmark = pytest.mark.slow

CANARY = "canary-31337"
OUTPUT = line(response=CANARY, done=False)
# What Ollama can answer, with the canary wherever it could quote a prompt or an answer.
ANSWERS: dict[str, Script] = {
    "complete": words(CANARY, CANARY),
    "no end": stream(OUTPUT),
    "reset": [HEADERS_STREAM, chunk(OUTPUT), RESET],
    "malformed line": stream(OUTPUT, CANARY.encode() + b"\n"),
    "wrong types": stream(line(response={"x": CANARY}, done=CANARY)),
    "error line": stream(OUTPUT, line(error=f"cannot handle {CANARY}")),
    "status 400": error(400, f"invalid {CANARY}"),
    "status 500": error(500, f"failed on {CANARY}"),
    "status 418": reply(418, CANARY, "text/plain"),
    "not HTTP": [CANARY.encode() + b"\r\n\r\n"],
    "redirect": [b"HTTP/1.1 302 Found\r\nLocation: http://" + CANARY.encode() + b"/\r\n\r\n"],
    "not chunked": [HEADERS_STREAM, CANARY.encode(), END],
}


async def statuses(*calls: Any) -> str:
    """The statuses and metadata with which calls end."""
    ends = []
    for call in calls:
        try:
            await drained(call)
            metadata = await call.trailing_metadata()
            ends.append(f"{await call.code()} {metadata}")
        except grpc.aio.AioRpcError as failure:
            ends.append(f"{failure.code()} {failure.details()} {failure.trailing_metadata()}")
    return "\n".join(ends)


async def logged(log: io.StringIO, text: str, *, count: int) -> str:
    """The log, once it contains a text `count` times; a call is logged after its status is sent."""
    async with asyncio.timeout(5):
        while log.getvalue().count(text) < count:
            await asyncio.sleep(0.001)
    return log.getvalue()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_what_ollama_answers_is_private(
    server: Server, ollama: ScriptedOllama, json_log: io.StringIO, answer: str
) -> None:
    for route in ("/api/generate", "/api/chat", "/api/embed"):
        ollama.scripts[route] = ANSWERS[answer]
    request = pb.GenerateRequest(model="gemma3:270m", prompt=CANARY)
    conversation = pb.GenerateRequest(model="gemma3:270m")
    conversation.system = CANARY
    conversation.conversation.messages.add(role="ROLE_USER").parts.add(text=CANARY)
    inputs = embedding_pb.EmbedRequest(model="gemma3:270m", inputs=[CANARY])
    secret = (("authorization", f"Bearer {CANARY}"),)
    ended = await statuses(
        server.generation.Generate(request, metadata=secret, timeout=5),
        server.generation.Generate(conversation, metadata=secret, timeout=5),
        server.generation.GenerateOnce(pb.GenerateOnceRequest(request=request), timeout=5),
        embedding_rpc.EmbeddingServiceStub(server.channel).Embed(inputs, timeout=5),
    )

    log = await logged(json_log, '"message": "call"', count=4)
    assert log.count('"message": "call"') == 4
    assert CANARY not in log
    assert CANARY not in ended
    assert ended.count("StatusCode.OK") == (3 if answer == "complete" else 0)


async def test_what_is_invalid_is_private(server: Server, json_log: io.StringIO) -> None:
    request = pb.GenerateRequest(model="gemma3:270m", prompt=CANARY)
    request.format.json_schema = '{"type": "nonsense"}'
    request.stop.sequences.append(CANARY * 1000)
    raw = server.channel.unary_stream("/eudai.v1.GenerationService/Generate")
    ended = await statuses(
        server.generation.Generate(request, timeout=5), raw(CANARY.encode(), timeout=5)
    )

    log = await logged(json_log, "INVALID_REQUEST", count=2)
    assert log.count("INVALID_REQUEST") == 2
    assert ended.count("INVALID_ARGUMENT") == 2
    assert CANARY not in log + ended
