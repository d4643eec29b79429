"""R21: requests that are made to be expensive, sent repeatedly, hardly delay other callers."""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import http2_client
import pytest
from calls import MODEL, channel_to, generate, until_health
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from eudai_server.rpc.wire.parsing import MESSAGE_BYTES_MAX
from google.protobuf import descriptor_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from hostile_schemas import any_of_chain, patterns
from http2_client import http2_to
from observed_server import observing
from processes import spawn
from refusal import Refusal
from reliability_table import Row, percentile
from scripted_ollama import ScriptedOllama, done, stream, words

MIB = 1 << 20
HOSTILE_AT_ONCE = 2
MEMORY_MIB_MAX = 32
# Three slow messages, 24 MiB, and what arrives in 25 ms: 30 MiB from a network of 10 Gbit/s.
ARRIVING_MIB_MAX = 64
# A tool call of the model.
CALL = (
    b'{"message":{"role":"assistant","content":"","tool_calls":'
    b'[{"id":"c","function":{"index":0,"name":"t0","arguments":{"a":"x"}}}]},"done":false}\n'
)


# ---- the requests


def chained_references() -> pb.GenerateRequest:
    """2 KB; checking an answer against it takes 2**26 steps."""
    return _with_format(json_schema=any_of_chain(26))


def chained_references_of_tools() -> pb.GenerateRequest:
    """The same, as the schema of many tools."""
    schema = json.loads(any_of_chain(40))
    properties = {"a": {"$ref": schema["$ref"]}}
    return _with_tools(
        json.dumps({"type": "object", "properties": properties, "$defs": schema["$defs"]})
    )


def costly_patterns() -> pb.GenerateRequest:
    """10 KB; compiling it took 577 MiB."""
    return _with_format(json_schema=patterns(200, 60))


def costly_patterns_of_tools() -> pb.GenerateRequest:
    """The allowed number and length of patterns, in each of many tools."""
    return _with_tools(patterns(12, 15, type="object"))


def empty_messages() -> pb.GenerateRequest:
    """0.8 MB of empty messages."""
    return pb.GenerateRequest(
        model=MODEL, conversation=pb.Conversation(messages=[content_pb2.Message()] * 400_000)
    )


def types_that_reach_each_other() -> pb.GenerateRequest:
    """30 message types of 150 fields."""
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    for index in range(30):
        message = file.message_type.add(name=f"M{index}")
        for number in range(1, 151):
            target = f".M{(index + number) % 30}"
            message.field.add(name=f"f{number}", number=number, type=11, label=1, type_name=target)
    return _with_protobuf(file)


def combined_oneofs() -> pb.GenerateRequest:
    """Six oneofs of one member beside 300 fields."""
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    message = file.message_type.add(name="M0")
    for index in range(6):
        message.oneof_decl.add(name=f"o{index}")
        message.field.add(name=f"m{index}", number=index + 1, type=9, label=1, oneof_index=index)
    for number in range(10, 310):
        message.field.add(name=f"f{number}", number=number, type=9, label=1)
    return _with_protobuf(file)


def _with_protobuf(file: descriptor_pb2.FileDescriptorProto) -> pb.GenerateRequest:
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    return _with_format(protobuf=pb.ProtobufFormat(message_type="M0", file_descriptor_set=data))


def _with_format(**shape: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(model=MODEL, prompt="x", format=pb.OutputFormat(**shape))


def _with_tools(schema: str) -> pb.GenerateRequest:
    tools = [content_pb2.Tool(name=f"t{index}", parameters_schema=schema) for index in range(8)]
    message = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x")])
    return pb.GenerateRequest(
        model=MODEL, conversation=pb.Conversation(messages=[message]), tools=tools
    )


# ---- their effect on others

# Takes an address and an end time; returns how the attack's calls ended.
Attack = Callable[[str, float], Awaitable[Counter[str]]]


def sending(request: pb.GenerateRequest) -> Attack:
    """Send a request repeatedly, two at once."""
    data = request.SerializeToString()

    async def attack(address: str, end_s: float) -> Counter[str]:
        ended: Counter[str] = Counter()
        async with channel_to(address) as channel:
            send = channel.unary_stream("/eudai.v1.GenerationService/Generate")

            async def work() -> None:
                while time.monotonic() < end_s:
                    ended[await _ending(send(data, timeout=30))] += 1

            await asyncio.gather(*(work() for _ in range(HOSTILE_AT_ONCE)))
        return ended

    return attack


async def _ending(call: Any) -> str:
    try:
        async for _ in call:
            pass
    except AioRpcError as failure:
        refused = Refusal(failure)
        return f"{refused.code.name} {refused.reason} {' '.join(refused.fields)}".strip()
    return StatusCode.OK.name


async def send_paths(address: str, end_s: float) -> Counter[str]:
    """Open streams whose path is not UTF-8."""
    ended: Counter[str] = Counter()
    while time.monotonic() < end_s:
        async with http2_to(address) as raw:
            await raw.request(b"/\xff/x")
            async with asyncio.timeout(10):
                while not raw.ended:
                    await asyncio.sleep(0.001)
        ended["refused"] += 1
    return ended


async def hold_messages(address: str, end_s: float) -> Counter[str]:
    """Repeatedly begin many messages that stop one byte before the limit."""
    program = Path(http2_client.__file__)
    seconds = f"{end_s - time.monotonic():.1f}"
    process = spawn(
        sys.executable, program, address, str(MESSAGE_BYTES_MAX), seconds, stdout=subprocess.PIPE
    )
    printed, _ = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    return Counter(json.loads(printed))


# The request is made before the attack begins, so that the test does not delay itself.
ROWS: dict[str, tuple[Callable[[], Attack], str, str]] = {
    "R21a": (lambda: send_paths, "a path that is not UTF-8", "refused"),
    "R21b": (lambda: sending(chained_references()), "a schema of 26 chained anyOf", "OK"),
    "R21c": (
        lambda: sending(chained_references_of_tools()), "8 tools with 40 chained anyOf each", "OK",
    ),
    "R21d": (
        lambda: sending(costly_patterns()), "a schema of 200 patterns of 60 letters",
        "INVALID_ARGUMENT INVALID_REQUEST format.json_schema",
    ),
    "R21e": (
        lambda: sending(costly_patterns_of_tools()), "patterns of 15 letters in 8 tools",
        "INVALID_ARGUMENT INVALID_REQUEST tools[",
    ),
    "R21f": (
        lambda: sending(empty_messages()),
        "400,000 empty messages",
        "INVALID_ARGUMENT INVALID_REQUEST",
    ),
    "R21g": (
        lambda: sending(types_that_reach_each_other()), "30 message types of 150 fields",
        "INVALID_ARGUMENT INVALID_REQUEST format.protobuf",
    ),
    "R21h": (
        lambda: sending(combined_oneofs()), "six oneofs beside 300 fields",
        "INVALID_ARGUMENT INVALID_REQUEST format.protobuf",
    ),
    "R21i": (lambda: hold_messages, "messages that stop one byte before 8 MiB", "grpc-status 8"),
}  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            number,
            marks=pytest.mark.row(
                number, f"{what}: others wait at most 100 ms, memory does not grow"
            ),
        )
        for number, (_, what, _) in ROWS.items()
    ],
)
async def test_hostile_requests_delay_no_other_caller(
    attack: str, ollama: ScriptedOllama, figures: Row
) -> None:
    make, _, expected = ROWS[attack]
    run = make()
    ollama.scripts["/api/generate"] = words('"x"')
    ollama.scripts["/api/chat"] = stream(CALL, done())
    async with observing(ollama.url, EUDAI_MAX_RUNNING="64") as server:
        async with channel_to(server.address) as channel:
            await until_health(channel, serving=True)
            waits_ms: list[float] = []
            others = asyncio.create_task(_call_steadily(channel, waits_ms))
            await asyncio.sleep(figures.some(3, 1))
            idle = await server.inside()
            calm_ms, waits_ms[:] = max(waits_ms), []
            gc.freeze()  # the pauses of this process are not measured
            ended = await run(server.address, time.monotonic() + figures.some(8, 1))
            gc.unfreeze()
            others.cancel()
            inside = await server.inside()
        peak = await server.peak_rss()
    assert waits_ms
    assert all(ending.startswith(expected) for ending in ended), ended
    figures.count(f"ended {min(ended)}", sum(ended.values()), ">=", 2)
    figures.count("calls of others", len(waits_ms), ">=", 2)
    figures.time("their longest wait, ms", max(waits_ms), "<=", 100)
    figures.time("their p99, ms", percentile(waits_ms, 0.99))
    figures.time("their longest wait before, ms", calm_ms)
    figures.time("loop late at most, ms", inside["lag_max_ms"])
    figures.count("CPU of the loop between two looks, worst ms", inside["busy_max_ms"], "<=", 100)
    mib_max = ARRIVING_MIB_MAX if attack == "R21i" else MEMORY_MIB_MAX
    figures.time("peak memory over idle, MiB", (peak - idle["rss"]) / MIB, "<=", mib_max)


async def _call_steadily(channel: Any, waits_ms: list[float]) -> None:
    while True:
        begin_s = time.monotonic()
        outcome = await generate(channel, timeout_s=10)
        assert outcome.finished, outcome
        waits_ms.append((time.monotonic() - begin_s) * 1000)
        await asyncio.sleep(0.005)
