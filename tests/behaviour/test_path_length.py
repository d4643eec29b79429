"""How much the server does for a call and for a token, in counts that no busy machine changes.

A count that rises makes the path of a token slower. If it has to rise, raise its limit here, and
say why in the commit. `make bench` measures what the path costs in time.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import eudai_server
import pytest
from eudai.v1 import generation_service_pb2 as pb
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, chunk, done, line
from serving import Server

OURS = str(Path(eudai_server.__file__).parent)
# A pause between tokens, so that each arrives alone; on a slow machine some arrive together.
PAUSE_S = 0.005
TOKENS = 100

# What one more message costs: functions of the server that are entered or resumed, timers, and
# futures of the event loop, which the test's client uses too.
MESSAGE_LIMITS = {"functions": 68, "timers": 0.1, "futures": 5.5}
# What a call of one token costs.
CALL_LIMITS = {"functions": 480, "timers": 6, "futures": 33}


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
    with counted() as counts:
        events = await messages(server)
    return len(events), counts


@pytest.mark.parametrize("kind", CALL_LIMITS)
async def test_a_call_does_not_do_more_than_before(
    server: Server, ollama: ScriptedOllama, kind: str
) -> None:
    count, counts = await counts_of(server, ollama, 1)

    assert count == 3  # Started, one Delta, Finished
    assert counts["functions"] > 0
    assert counts[kind] <= CALL_LIMITS[kind]


async def test_a_token_does_not_cost_more_than_before(
    server: Server, ollama: ScriptedOllama
) -> None:
    few, base = await counts_of(server, ollama, 1)
    many, counts = await counts_of(server, ollama, TOKENS)
    more = many - few

    assert TOKENS / 2 < more < TOKENS
    assert {
        kind: (counts[kind] - base[kind]) / more
        for kind, limit in MESSAGE_LIMITS.items()
        if (counts[kind] - base[kind]) / more > limit
    } == {}
