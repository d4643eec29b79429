"""A flush interval gathers deltas and delays nothing else."""

import asyncio
from typing import Any

import grpc
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from refusal import Refusal
from scripted_ollama import END, HEADERS_STREAM, Script, ScriptedOllama, X, chunk, done, line
from serving import Server, collect, config_for, kinds, serving, text_of

# Longer than every test: output that waits for the interval is never seen.
LONG = Duration(seconds=10)
LIMIT_S = 5.0
USER = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x")])


def begun(server: Server, heartbeat_interval: Duration | None = None) -> Any:
    """Begin a generation whose deltas are gathered."""
    request = pb.GenerateRequest(
        model="gemma3:270m",
        conversation=pb.Conversation(messages=[USER]),
        events=pb.EventOptions(flush_interval=LONG, heartbeat_interval=heartbeat_interval),
    )
    return server.generation.Generate(request)


async def read_into(events: list[pb.GenerateResponse], call: Any) -> None:
    """Read every event, all of which must arrive before the interval has passed."""
    async with asyncio.timeout(LIMIT_S):
        async for event in call:
            events.append(event)  # noqa: PERF401 - what came before a failure is kept


async def gathered(
    server: Server, heartbeat_interval: Duration | None = None
) -> list[pb.GenerateResponse]:
    """Return every event of a generation."""
    seen: list[pb.GenerateResponse] = []
    await read_into(seen, begun(server, heartbeat_interval))
    return seen


def chat(content: str = "", **fields: object) -> bytes:
    """One chunk of a conversation's answer."""
    return chunk(line(message={"role": "assistant", "content": content, **fields}, done=False))


def spread(*pieces: bytes) -> Script:
    """Pieces that arrive one after the other, and then the end of the answer."""
    apart = [step for piece in pieces for step in (piece, 0.05)]
    return [HEADERS_STREAM, *apart, chunk(done()), END]


async def test_the_end_of_the_answer_is_not_delayed(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/chat"] = spread(chat("a"), chat("b"), chat("c"))
    events = await gathered(server)

    assert kinds(events) == ["started", "delta", "delta", "finished"]
    assert [event.delta.text for event in events[1:3]] == ["a", "bc"]


async def test_a_tool_call_is_not_delayed_and_keeps_its_place(
    server: Server, ollama: ScriptedOllama
) -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    release = asyncio.Event()
    ollama.scripts["/api/chat"] = [
        HEADERS_STREAM,
        *(step for word in "abc" for step in (chat(word), 0.05)),
        chat(tool_calls=[call]),
        release,
        chunk(done()),
        END,
    ]
    events = []
    async with asyncio.timeout(LIMIT_S):
        async for event in begun(server):
            events.append(event)
            if event.HasField("tool_call"):
                release.set()

    assert text_of(events[:3]) == "abc"
    assert kinds(events) == ["started", "delta", "delta", "tool_call", "warning", "finished"]


async def test_reasoning_is_sent_before_the_answer(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/chat"] = spread(
        chat(thinking="h"), chat(thinking="m"), chat(thinking="m"), chat("y"), chat("es")
    )
    events = await gathered(server)

    assert [event.delta.reasoning or event.delta.text for event in events[1:-1]] == [
        "h",
        "mm",
        "yes",
    ]


async def test_heartbeats_continue_while_deltas_are_gathered(
    server: Server, ollama: ScriptedOllama
) -> None:
    end = asyncio.Event()
    ollama.scripts["/api/chat"] = [*spread(chat("a"), chat("b"))[:-2], end, chunk(done()), END]
    events, beats = [], 0
    async with asyncio.timeout(LIMIT_S):
        async for event in begun(server, Duration(nanos=100_000_000)):
            events.append(event)
            beats += event.HasField("progress") and (
                event.progress.phase == pb.GENERATION_PHASE_GENERATING
            )
            if beats >= 2:
                end.set()

    assert text_of(events) == "ab"


async def test_a_failure_is_sent_at_once_after_the_gathered_text(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = [*spread(chat("a"), chat("b"))[:-2], END]
    events: list[pb.GenerateResponse] = []
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await read_into(events, begun(server))

    assert Refusal(failure.value).reason == "BACKEND_STREAM_INTERRUPTED"
    assert text_of(events) == "ab"


async def test_a_complete_answer_frees_its_slot(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, X, 0.05, X, 0.05, chunk(done()), END]
    async with serving(config_for(ollama.url, max_running=1)) as server:
        await server.until("", "SERVING")
        options = pb.EventOptions(flush_interval=LONG)
        async with asyncio.timeout(LIMIT_S):
            answers = await asyncio.gather(
                *(collect(server, prompt="x", events=options) for _ in range(3))
            )

    assert [text_of(answer) for answer in answers] == ["xx"] * 3


async def test_the_gathered_text_is_bounded(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/chat"] = spread(*[chat("x" * 30_000) for _ in range(10)])
    events = await gathered(server)
    sizes = [event.ByteSize() for event in events]

    assert text_of(events) == "x" * 300_000
    assert max(sizes) < 128 << 10
