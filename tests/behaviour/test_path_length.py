"""How much the server does for a call and for a token, in counts that no busy machine changes.

A count that rises makes the path of a token slower. If it has to rise, raise its limit here, and
say why in the commit. `make bench` measures what the path costs in time.
"""

import asyncio
import gc
import math
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import eudai_server
import grpc
import pytest
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from eudai_server.ollama.state import gathering, probe
from processes import eudai_server as eudai_server_process, spawn
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, chunk, done, line
from serving import Server

OURS = str(Path(eudai_server.__file__).parent)
# A pause between tokens, so that each arrives alone; on a slow machine some arrive together.
PAUSE_S = 0.005
TOKENS = 100
CALLS = 10
# On a busy machine tokens arrive together, so the smallest count is compared.
ATTEMPTS = 3

# What one more message costs: functions of the server that are entered or resumed, bytecode
# instructions in them, timers, and futures of the event loop, which the test's client uses too.
MESSAGE_LIMITS = {"functions": 66.5, "instructions": 1_120, "timers": 0.1, "futures": 5.5}
# What a call of one token costs.
CALL_LIMITS = {"functions": 482, "instructions": 8_510, "timers": 6, "futures": 33}
# A newer Python does not report each instruction.
COUNTS_INSTRUCTIONS = sys.version_info < (3, 12)
# The system calls of the server's process, with gRPC's threads: 101 and 11.7 when this was written.
CALL_SYSTEM_CALLS = 115
MESSAGE_SYSTEM_CALLS = 13.5
# The most memory that Python allocates at once for a stream of 100 tokens, with the client's and
# the scripted Ollama's: 79 KiB when this was written. A call of one token needs 41 KiB.
STREAM_KIB = 90


@pytest.fixture(autouse=True)
def no_probe_and_no_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server do only what a call needs, because the rest would add to the counts.

    It probes Ollama only once. Its output does not gather, although counting makes it busy.
    """
    monkeypatch.setattr(probe, "INTERVAL_S", 60.0)
    monkeypatch.setattr(gathering, "BUSY_SHARE", math.inf)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count what functions of the server do during the block."""
    counts: Counter[str] = Counter()

    kinds = {"call_at": "timers", "call_later": "timers", "create_future": "futures"}

    def observe(frame: FrameType, event: str, argument: Any) -> None:
        if not frame.f_code.co_filename.startswith(OURS):
            return
        if event == "call":
            counts["functions"] += 1
            kind = kinds.get(frame.f_code.co_name)
        else:
            kind = kinds.get(getattr(argument, "__name__", "")) if event == "c_call" else None
        if kind:
            counts[kind] += 1

    sys.setprofile(observe)
    try:
        yield counts
    finally:
        sys.setprofile(None)


@contextmanager
def counted_instructions() -> Iterator[Counter[str]]:
    """Count the bytecode instructions of functions of the server during the block."""
    counts: Counter[str] = Counter()

    def observe(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        counts["instructions"] += event == "opcode"
        return observe

    coverage = sys.gettrace()
    sys.settrace(observe)
    try:
        yield counts
    finally:
        sys.settrace(coverage)


async def messages(server: Server) -> list[pb.GenerateResponse]:
    request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
    return [event async for event in server.generation.Generate(request, timeout=30)]


def stream_of(tokens: int) -> list[Any]:
    pieces = [
        step
        for number in range(tokens)
        for step in (chunk(line(response=f" {number}", done=False)), PAUSE_S)
    ]
    return [HEADERS_STREAM, *pieces, chunk(done()), END]


async def counts_of(
    server: Server, ollama: ScriptedOllama, tokens: int
) -> tuple[int, Counter[str]]:
    """The number of messages of a call, and its counts."""
    ollama.scripts["/api/generate"] = stream_of(tokens)
    await messages(server)  # what only the first call does is not counted
    instructions: Counter[str] = Counter()
    if COUNTS_INSTRUCTIONS:
        with counted_instructions() as instructions:
            await messages(server)
    with counted() as counts:
        events = await messages(server)
    return len(events), counts + instructions


@pytest.mark.parametrize("kind", CALL_LIMITS)
async def test_a_call_does_not_do_more_than_before(
    server: Server, ollama: ScriptedOllama, kind: str
) -> None:
    count, counts = await counts_of(server, ollama, 1)

    assert count == 3  # Started, one Delta, Finished
    assert counts["functions"] > 0
    assert (counts["instructions"] > 0) is COUNTS_INSTRUCTIONS
    assert counts[kind] <= CALL_LIMITS[kind]


async def test_a_token_does_not_cost_more_than_before(
    server: Server, ollama: ScriptedOllama
) -> None:
    few, base = await counts_of(server, ollama, 1)
    costs: dict[str, list[float]] = {kind: [] for kind in MESSAGE_LIMITS}
    for _ in range(ATTEMPTS):
        many, counts = await counts_of(server, ollama, TOKENS)
        more = many - few
        assert 0 < more < TOKENS
        for kind, of_kind in costs.items():
            of_kind.append((counts[kind] - base[kind]) / more)

    assert {
        kind: of_kind for kind, of_kind in costs.items() if min(of_kind) > MESSAGE_LIMITS[kind]
    } == {}


async def test_a_stream_does_not_need_more_memory(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = stream_of(TOKENS)
    await drain(server)
    gc.collect()
    tracemalloc.start()
    try:
        await drain(server)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert 0 < peak_bytes / 1024 <= STREAM_KIB


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
async def test_system_calls_do_not_become_more(ollama: ScriptedOllama) -> None:
    running = eudai_server_process(OLLAMA_BASE_URL=ollama.url)
    address, process = await asyncio.to_thread(running.__enter__)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            remote: Any = SimpleNamespace(generation=rpc.GenerationServiceStub(channel))
            few, base = await system_calls_of(remote, ollama, process.pid, 1)
            many, count = await system_calls_of(remote, ollama, process.pid, TOKENS)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)

    assert 0 < base / CALLS <= CALL_SYSTEM_CALLS
    assert (count - base) / (many - few) <= MESSAGE_SYSTEM_CALLS


async def system_calls_of(
    server: Any, ollama: ScriptedOllama, process_id: int, tokens: int
) -> tuple[int, int]:
    """The messages of some calls, and the system calls that the server makes meanwhile."""
    ollama.scripts["/api/generate"] = stream_of(tokens)
    await messages(server)
    with tempfile.NamedTemporaryFile("r") as summary:
        command = ["strace", "-f", "-c", "-o", summary.name, "-p", str(process_id)]
        strace = spawn(*command, stderr=subprocess.PIPE)
        try:
            assert strace.stderr
            attached = await asyncio.to_thread(strace.stderr.readline)
            assert b"attached" in attached, attached
            count = sum([len(await messages(server)) for _ in range(CALLS)])
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=10)
        [total] = re.findall(r"(\d+)\s+(?:\d+\s+)?total", summary.read())
    return count, int(total)


async def drain(server: Server) -> None:
    """Make a call, and keep none of its messages."""
    request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
    async for _ in server.generation.Generate(request, timeout=30):
        pass
