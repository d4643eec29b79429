"""The process that compiles and checks expensive JSON Schemas, with limits and a queue."""

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator

import psutil
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from eudai_server.core.errors import ServiceError
from eudai_server.core.json_schema import PATTERNS_MAX, VALUES_MAX, Schema
from eudai_server.core.schema_checks import TOO_EXPENSIVE, SchemaChecks
from hostile_schemas import any_of_chain, patterns
from refusal import refusal
from scripted_ollama import ScriptedOllama, words
from serving import Server, collect, config_for, kinds, serving

REFERENCE = json.dumps({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}})


@pytest.fixture
async def checks() -> AsyncIterator[SchemaChecks]:
    """SchemaChecks with a worker process of their own."""
    running = SchemaChecks()
    yield running
    await running.close()


def workers() -> list[psutil.Process]:
    """The processes that check schemas for this one."""
    return [
        child
        for child in psutil.Process().children()
        if "eudai_server.core.schema_worker" in child.cmdline()
    ]


async def until_checking(checks: SchemaChecks, *, queued: int) -> None:
    """Wait until one check runs and so many wait."""
    async with asyncio.timeout(10):
        while (checks.queue.running, checks.queue.queued) != (1, queued):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        ('{"type":"object"}', "{}", True),
        ('{"type":"object"}', "[]", False),
        ("{}", "no JSON", False),
        (REFERENCE, "1", True),
        (REFERENCE, '"1"', False),
        (REFERENCE, "no JSON", False),
        (REFERENCE, "[" * 100_000, False),
        (any_of_chain(10), '"x"', False),
        (any_of_chain(40), '"x"', None),
        (REFERENCE, " " * (1 << 20) + "1", None),
    ],
)
async def test_a_text_matches_or_not_or_takes_too_long(
    checks: SchemaChecks, schema: str, text: str, fits: object
) -> None:
    assert await checks.fits(Schema(schema), text, "a") is fits


async def test_the_first_schema_that_does_not_compile_is_named(checks: SchemaChecks) -> None:
    cheap, good, bad, expensive = (
        Schema(text)
        for text in ("{}", REFERENCE, '{"$ref":"#/nowhere"}', patterns(PATTERNS_MAX, 15))
    )

    assert await checks.compile([cheap, good, any_of(40)], "a") is None
    index, reason = await checks.compile([cheap, good, bad], "a") or (-1, "")
    assert (index, reason.split(":")[0]) == (2, "is not a valid JSON Schema")
    assert await checks.compile([good, cheap, expensive, bad], "a") == (2, TOO_EXPENSIVE)


def any_of(links: int) -> Schema:
    """A schema that is cheap to compile, but takes exponential time to check a value against."""
    return Schema(any_of_chain(links))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "is not valid JSON"),
        ('{"a":NaN}', "is not valid JSON"),
        ('{"a":' * 30_000, "must not have more than"),
        ('{"not":' * 200 + "{}" + "}" * 200, "must not be nested deeper than"),
        (json.dumps({"enum": list(range(VALUES_MAX))}), "must not have more than"),
        (json.dumps({"title": "x" * (256 << 10)}), "must not be longer than"),
        (patterns(PATTERNS_MAX + 1, 1), "more than 100 patterns"),
        (json.dumps({"pattern": "x" * 1025}), "more than 1024 characters"),
        (json.dumps({"patternProperties": {"x" * 1025: {}}}), "more than 1024 characters"),
    ],
)
def test_an_invalid_schema_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Schema(text)


async def test_a_dead_process_is_started_again(checks: SchemaChecks) -> None:
    schema = Schema(REFERENCE)
    assert await checks.fits(schema, "1", "a")
    (worker,) = workers()
    worker.kill()

    assert await checks.fits(schema, "1", "a")


async def test_the_event_loop_runs_while_a_process_ends(
    checks: SchemaChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looped = threading.Event()
    wait = subprocess.Popen.wait

    def wait_for_the_loop(process: "subprocess.Popen[bytes]") -> int:
        assert looped.wait(5)
        return wait(process)

    assert await checks.fits(Schema(REFERENCE), "1", "a")
    workers()[0].kill()
    monkeypatch.setattr(subprocess.Popen, "wait", wait_for_the_loop)
    check = asyncio.create_task(checks.fits(Schema(REFERENCE), "1", "a"))
    await asyncio.sleep(0.1)
    looped.set()

    assert await check


async def test_the_process_shares_the_session_but_not_the_signals_of_the_terminal(
    checks: SchemaChecks,
) -> None:
    checks.start()
    (worker,) = workers()

    assert os.getsid(worker.pid) == os.getsid(0)
    assert os.getpgid(worker.pid) == worker.pid


async def test_no_call_fails_if_the_process_cannot_start(
    checks: SchemaChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    schema = Schema(REFERENCE)

    assert await checks.compile([schema], "a") is None
    assert await checks.fits(schema, "1", "a") is None


async def test_the_answer_for_a_caller_who_left_goes_to_no_other(checks: SchemaChecks) -> None:
    leaving = asyncio.create_task(checks.fits(any_of(40), '"x"', "a"))
    await until_checking(checks, queued=0)
    leaving.cancel()

    assert [await checks.fits(Schema(REFERENCE), text, "a") for text in ("1", "null")] == [
        True,
        False,
    ]


async def test_callers_take_turns(checks: SchemaChecks) -> None:
    hostile = [asyncio.create_task(checks.fits(any_of(40), '"x"', "a")) for _ in range(8)]
    await asyncio.sleep(0)
    assert await checks.fits(Schema(REFERENCE), "1", "b")
    done = sum(task.done() for task in hostile)
    await asyncio.gather(*hostile)

    assert done <= 2


async def test_a_full_queue_refuses() -> None:
    checks = SchemaChecks(queued_max=1)
    held = [asyncio.create_task(checks.fits(any_of(40), '"x"', "a")) for _ in range(2)]
    await until_checking(checks, queued=1)
    with pytest.raises(ServiceError) as refused:
        await checks.compile([Schema(REFERENCE)], "a")
    await asyncio.gather(*held)
    await checks.close()

    assert refused.value.reason == "QUEUE_FULL"


# ---- through the server


async def test_an_answer_that_takes_too_long_to_check_brings_a_warning(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = words('"', 'x"')
    shape = pb.OutputFormat(json_schema=any_of_chain(40))
    events = await collect(server, prompt="x", format=shape)
    warning = events[-2].warning

    assert kinds(events)[-1] == "finished"
    assert warning.code == pb.GENERATION_WARNING_CODE_FORMAT_NOT_SATISFIED
    assert "could not be checked" in warning.message


async def test_a_schema_that_is_too_expensive_names_its_field(server: Server) -> None:
    part = content_pb2.Part(text="x")
    ask = pb.Conversation(messages=[content_pb2.Message(role=content_pb2.ROLE_USER, parts=[part])])
    tools = [
        content_pb2.Tool(name="a"),
        content_pb2.Tool(name="b", parameters_schema=patterns(PATTERNS_MAX, 15, type="object")),
    ]
    refused = await refusal(server, conversation=ask, tools=tools)

    assert refused.fields == ["tools[1].parameters_schema"]
    assert TOO_EXPENSIVE in refused.message


async def test_a_drain_ends_the_process(ollama: ScriptedOllama) -> None:
    async with serving(config_for(ollama.url)) as server:
        await server.until("", "SERVING")
        await collect(server, prompt="x", format=pb.OutputFormat(json_schema=REFERENCE))
        assert len(workers()) == 1

    assert workers() == []
