"""Invalid requests and failures of Ollama: code, reason, and details that name what to change."""

import asyncio
import gc
from typing import Any

import grpc
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2
from eudai_server.core.errors import InvalidRequestError
from google.protobuf.duration_pb2 import Duration
from refusal import Refusal, refusal
from scripted_ollama import ScriptedOllama, error, reply
from serving import Server, config_for, serving

METHOD = "/eudai.v1.GenerationService/Generate"
USER = content_pb2.ROLE_USER
DETAILS_BYTES_MAX = 4096


def turn(
    role: "content_pb2.Role.ValueType", *parts: content_pb2.Part, **fields: Any
) -> pb.Conversation:
    """A conversation of one message."""
    return pb.Conversation(messages=[content_pb2.Message(role=role, parts=parts, **fields)])


REQUEST_CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no model": ({"model": "", "prompt": "x"}, ["model"]),
    "a model that is no reference": ({"model": "../etc/passwd", "prompt": "x"}, ["model"]),
    "a model too long": ({"model": "m" * 600, "prompt": "x"}, ["model"]),
    "no input": ({}, ["input"]),
    "an empty prompt": ({"prompt": ""}, ["prompt"]),
    "an empty raw prompt": ({"raw_prompt": ""}, ["raw_prompt"]),
    "an empty infill": ({"infill": pb.Infill()}, ["infill.prefix", "infill.suffix"]),
    "an empty conversation": ({"conversation": pb.Conversation()}, ["conversation.messages"]),
    "a message without role": (
        {"conversation": turn(content_pb2.ROLE_UNSPECIFIED)},
        ["conversation.messages[0].role"],
    ),
    "a message without text": ({"conversation": turn(USER)}, ["conversation.messages[0].parts"]),
    "a part without kind": (
        {"conversation": turn(USER, content_pb2.Part(text="x"), content_pb2.Part())},
        ["conversation.messages[0].parts[1]"],
    ),
    "a user who reasons": (
        {"conversation": turn(USER, content_pb2.Part(text="x"), content_pb2.Part(reasoning="y"))},
        ["conversation.messages[0].parts[1].reasoning"],
    ),
    "two systems": (
        {"conversation": turn(content_pb2.ROLE_SYSTEM, content_pb2.Part(text="x")), "system": "y"},
        ["conversation.messages[0].role"],
    ),
    "a system for a raw prompt": ({"raw_prompt": "x", "system": "y"}, ["system"]),
    "tools with a prompt and a bad name": (
        {"prompt": "x", "tools": [content_pb2.Tool(name="a b")]},
        ["tools", "tools[0].name"],
    ),
    "too many tools": (
        {
            "conversation": turn(USER, content_pb2.Part(text="x")),
            "tools": [content_pb2.Tool(name="f")] * 129,
        },
        ["tools"],
    ),
    "a hot temperature": (
        {"prompt": "x", "sampling": options_pb2.SamplingOptions(temperature=5.1)},
        ["sampling.temperature"],
    ),
    "no number": (
        {"prompt": "x", "sampling": options_pb2.SamplingOptions(top_p=float("nan"))},
        ["sampling.top_p"],
    ),
    "several ranges at once": (
        {
            "prompt": "x",
            "sampling": options_pb2.SamplingOptions(
                top_k=-1, repeat_penalty=0, presence_penalty=-3
            ),
        },
        ["sampling.top_k", "sampling.repeat_penalty", "sampling.presence_penalty"],
    ),
    "no tokens": (
        {"prompt": "x", "stop": options_pb2.StopOptions(max_output_tokens=0)},
        ["stop.max_output_tokens"],
    ),
    "17 stop sequences": (
        {"prompt": "x", "stop": options_pb2.StopOptions(sequences=["x"] * 17)},
        ["stop.sequences"],
    ),
    "an empty stop sequence": (
        {"prompt": "x", "stop": options_pb2.StopOptions(sequences=[""])},
        ["stop.sequences"],
    ),
    "a format without shape": ({"prompt": "x", "format": pb.OutputFormat()}, ["format"]),
    "a schema that is no JSON": (
        {"prompt": "x", "format": pb.OutputFormat(json_schema="{")},
        ["format.json_schema"],
    ),
    "a schema that is no object": (
        {"prompt": "x", "format": pb.OutputFormat(json_schema="[1]")},
        ["format.json_schema"],
    ),
    "21 alternatives": (
        {"prompt": "x", "logprobs": pb.LogprobOptions(alternatives=21)},
        ["logprobs.alternatives"],
    ),
    "dropping messages of a prompt": (
        {"prompt": "x", "context_overflow": pb.CONTEXT_OVERFLOW_DROP_OLDEST},
        ["context_overflow"],
    ),
    "a keep-alive no timer can hold": (
        {
            "prompt": "x",
            "load": options_pb2.LoadOptions(keep_alive=Duration(seconds=315_576_000_000)),
        },
        ["load.keep_alive"],
    ),
    "a context of three": (
        {"prompt": "x", "load": options_pb2.LoadOptions(context_length=3)},
        ["load.context_length"],
    ),
    "a digest that is none": ({"prompt": "x", "expected_digest": "sha256:12"}, ["expected_digest"]),
    "a long flush interval": (
        {"prompt": "x", "events": pb.EventOptions(flush_interval=Duration(seconds=11))},
        ["events.flush_interval"],
    ),
    "a budget of nothing": ({"prompt": "x", "time_budget": Duration()}, ["time_budget"]),
    "17 labels": ({"prompt": "x", "labels": {str(index): "" for index in range(17)}}, ["labels"]),
    "a long label": ({"prompt": "x", "labels": {"a": "b" * 257}}, ["labels"]),
}


@pytest.mark.parametrize("case", REQUEST_CASES)
async def test_each_violation_names_its_field(server: Server, case: str) -> None:
    request, expected = REQUEST_CASES[case]
    refused = await refusal(server, **request)

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "INVALID_REQUEST"
    assert refused.fields == expected


async def test_all_violations_are_reported_at_once(server: Server) -> None:
    refused = await refusal(
        server,
        model="",
        sampling=options_pb2.SamplingOptions(temperature=-1),
        stop=options_pb2.StopOptions(max_output_tokens=-1),
    )

    assert refused.fields == ["model", "input", "sampling.temperature", "stop.max_output_tokens"]
    assert refused.message.endswith("(and 3 more)")


async def test_a_refusal_does_not_keep_the_request(server: Server) -> None:
    before = invalid_request_errors()  # left by other tests
    gc.disable()
    try:
        for _ in range(3):
            await refusal(server, prompt="x" * (1 << 20), model="not a model")
        known = set(map(id, before))
        errors = [error for error in invalid_request_errors() if id(error) not in known]
    finally:
        gc.enable()

    assert [error.__traceback__ for error in errors] == [None] * len(errors)


def invalid_request_errors() -> list[InvalidRequestError]:
    """The InvalidRequestError instances that exist in this process."""
    return [error for error in gc.get_objects() if isinstance(error, InvalidRequestError)]


async def test_details_stay_under_four_kibibytes(server: Server) -> None:
    bad = content_pb2.Message(role=USER, parts=[content_pb2.Part(reasoning="x")] * 50)
    refused = await refusal(server, conversation=pb.Conversation(messages=[bad] * 10))

    assert len(refused.fields) == 17
    assert "more violations" in refused.details["BadRequest"].field_violations[16].description
    assert len(refused.raw) < DETAILS_BYTES_MAX


async def test_bytes_that_are_not_a_request_are_refused(server: Server) -> None:
    call = server.channel.unary_stream(METHOD)(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert Refusal(failure.value).reason == "INVALID_REQUEST"


async def test_routing_metadata_that_names_another_model_is_refused(server: Server) -> None:
    request = pb.GenerateRequest(model="gemma3:270m", prompt="x")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await server.generation.Generate(request, metadata=(("eudai-model", "other"),)).read()
    agreeing = server.generation.Generate(request, metadata=(("eudai-model", "gemma3:270m"),))

    assert Refusal(failure.value).fields == ["model"]
    assert len([event async for event in agreeing]) > 1


async def test_the_error_for_an_unknown_model_says_how_to_pull_it(server: Server) -> None:
    refused = await refusal(server, model="nope", prompt="x")

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "MODEL_NOT_FOUND"
    assert refused.details["ResourceInfo"].resource_name == "nope:latest"
    assert "ollama pull nope" in refused.details["Help"].links[0].description


async def test_the_error_for_a_long_prompt_says_by_how_much(
    server: Server, ollama: ScriptedOllama
) -> None:
    nested = (
        '{"error":{"code":400,"message":"request (6002 tokens) exceeds the available context size'
        ' (4096 tokens), try increasing it"}}'
    )
    ollama.scripts["/api/generate"] = error(400, nested)
    refused = await refusal(server, prompt="x")

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert dict(refused.details["ErrorInfo"].metadata) == {
        "input_tokens": "6002",
        "context_length": "4096",
    }


async def test_another_digest_is_refused_before_a_load(
    server: Server, ollama: ScriptedOllama
) -> None:
    refused = await refusal(server, prompt="x", expected_digest="sha256:" + "0" * 64)

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.details["ErrorInfo"].metadata["actual"] == "sha256:" + "14" * 32
    assert not ollama.loads()


async def test_load_options_need_the_operators_permission(ollama: ScriptedOllama) -> None:
    async with serving(config_for(ollama.url, load_options=False)) as server:
        refused = await refusal(
            server, prompt="x", load=options_pb2.LoadOptions(context_length=8192)
        )

    assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert refused.reason == "LOAD_OPTIONS_FORBIDDEN"


@pytest.mark.usefixtures("quick_probe")
async def test_an_unreachable_ollama_is_reported_at_once(
    server: Server, ollama: ScriptedOllama
) -> None:
    await ollama.stop()
    await server.until("", "NOT_SERVING")
    refused = await asyncio.wait_for(refusal(server, prompt="x"), 10)

    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.reason == "BACKEND_UNREACHABLE"
    assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() > 0
    assert int(refused.trailers["grpc-retry-pushback-ms"]) > 0


async def test_a_message_over_the_limit_is_refused(server: Server) -> None:
    refused = await refusal(server, prompt="x" * (33 << 20))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED


# Status and text of Ollama; code and reason of the server.
OLLAMA_CASES = [
    (
        400,
        '"all-minilm" does not support generate',
        grpc.StatusCode.FAILED_PRECONDITION,
        "CAPABILITY_UNSUPPORTED",
    ),
    (
        400,
        "library/gemma3:270m does not support insert",
        grpc.StatusCode.FAILED_PRECONDITION,
        "CAPABILITY_UNSUPPORTED",
    ),
    (400, "json: cannot unmarshal SECRET", grpc.StatusCode.INTERNAL, "BACKEND_FAILURE"),
    (
        403,
        "ollama cloud is disabled: remote model is unavailable",
        grpc.StatusCode.FAILED_PRECONDITION,
        "CLOUD_DISABLED",
    ),
    (
        404,
        'model "x" not found, try pulling it first',
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
    ),
    (
        500,
        "model requires more system memory (9.9 GiB) than is available",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "INSUFFICIENT_MEMORY",
    ),
    (
        500,
        "llama-server process has terminated: SECRET",
        grpc.StatusCode.INTERNAL,
        "BACKEND_FAILURE",
    ),
    (500, "SECRET /root/.ollama", grpc.StatusCode.INTERNAL, "BACKEND_FAILURE"),
    (
        503,
        "server busy, please try again.  maximum pending requests exceeded",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
    ),
]


@pytest.mark.parametrize("case", OLLAMA_CASES, ids=lambda case: str(case[1])[:40])
async def test_failures_of_ollama_have_a_code_and_a_reason(
    server: Server, ollama: ScriptedOllama, case: tuple[int, str, grpc.StatusCode, str]
) -> None:
    status, message, code, reason = case
    ollama.scripts["/api/generate"] = error(status, message)
    refused = await refusal(server, prompt="x")

    assert (refused.code, refused.reason) == (code, reason)
    assert "SECRET" not in refused.message + refused.raw.decode("latin-1")


async def test_a_missing_route_is_not_a_missing_model(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = reply(404, "404 page not found", "text/plain")
    refused = await refusal(server, conversation=turn(USER, content_pb2.Part(text="x")))

    assert refused.code is grpc.StatusCode.UNIMPLEMENTED
    assert refused.reason == "BACKEND_UNSUPPORTED"
