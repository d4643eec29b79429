"""Tools, media, formats and heartbeats of a conversation.

The lines are those of Ollama 0.32.15, as its `api.ToolCall` writes tool calls: in the middle of a
stream (a model with a built-in parser) or on its last line (a model with a template of its own).
"""

import asyncio
import base64
from collections import Counter

import pytest
from descriptors import descriptor_set
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from refusal import refusal
from scripted_ollama import END, HEADERS_STREAM, ScriptedOllama, chunk, done, line, stream, words
from serving import Server, collect, kinds

ARGUMENTS = '{"zebra":12345678901234567890,"apple":1.50}'
CALL = (
    b'{"message":{"role":"assistant","content":"","tool_calls":'
    b'[{"id":"call_abc","function":{"index":0,"name":"add","arguments":%b}}]},'
)
SCHEMA = (
    '{"type":"object","properties":{"zebra":{"type":"integer"},'
    '"apple":{"type":"number","minimum":1}},"required":["zebra"]}'
)
TOOLS = [
    content_pb2.Tool(name="add", description="adds", parameters_schema=SCHEMA),
    content_pb2.Tool(name="now"),
]
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


def ask(*parts: content_pb2.Part) -> pb.Conversation:
    """A conversation of one user message."""
    return pb.Conversation(
        messages=[
            content_pb2.Message(
                role=content_pb2.ROLE_USER, parts=parts or [content_pb2.Part(text="x")]
            )
        ]
    )


def call_line(arguments: str = ARGUMENTS, *, last: bool = False) -> bytes:
    """A line with a tool call."""
    tail = b'"done":true,"done_reason":"stop","eval_count":5}\n' if last else b'"done":false}\n'
    return CALL % arguments.encode() + tail


@pytest.mark.parametrize("last", [False, True])
async def test_a_tool_call_arrives_whole(
    server: Server,
    ollama: ScriptedOllama,
    last: bool,
) -> None:
    text = line(message={"content": "Let me see."}, done=False)
    ollama.scripts["/api/chat"] = stream(text, call_line(last=last), *([] if last else [done()]))
    events = await collect(server, conversation=ask(), tools=TOOLS)
    call = next(event.tool_call for event in events if event.HasField("tool_call"))

    assert (call.id, call.name, call.arguments_json) == ("call_abc", "add", ARGUMENTS)
    assert kinds(events).index("tool_call") > kinds(events).index("delta")
    assert events[-1].finished.reason == pb.FINISH_REASON_TOOL_CALLS


async def test_tools_reach_ollama_as_they_were_written(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    await collect(server, conversation=ask(), tools=TOOLS)
    sent = ollama.sent_to("/api/chat")[0].body["tools"]

    assert [tool["function"]["name"] for tool in sent] == ["add", "now"]
    assert list(sent[0]["function"]["parameters"]["properties"]) == ["zebra", "apple"]
    assert sent[1]["function"]["parameters"] == {"type": "object", "properties": {}}


async def test_a_tool_call_without_an_id_gets_one(server: Server, ollama: ScriptedOllama) -> None:
    nameless = call_line().replace(b'"id":"call_abc",', b"")
    ollama.scripts["/api/chat"] = stream(nameless, nameless, done())
    first, second = [await collect(server, conversation=ask(), tools=TOOLS) for _ in range(2)]
    ids = [event.tool_call.id for event in (*first, *second) if event.HasField("tool_call")]

    assert len(set(ids)) == 4
    assert all(ids)


async def test_a_tool_result_has_the_name_of_its_call(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    asked = content_pb2.ToolCall(id="call_abc", name="add", arguments_json=ARGUMENTS)
    turns = [
        *ask().messages,
        content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, tool_calls=[asked]),
        content_pb2.Message(
            role=content_pb2.ROLE_TOOL, tool_call_id="call_abc", parts=[content_pb2.Part(text="42")]
        ),
    ]
    await collect(server, conversation=pb.Conversation(messages=turns), tools=TOOLS)
    sent = ollama.sent_to("/api/chat")[0].body["messages"]

    assert sent[1]["tool_calls"][0]["function"] == {
        "index": 0,
        "name": "add",
        "arguments": {"zebra": 12345678901234567890, "apple": 1.5},
    }
    assert sent[2] == {
        "role": "tool",
        "content": "42",
        "tool_call_id": "call_abc",
        "tool_name": "add",
    }


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("subtract", ARGUMENTS), ("add", '{"zebra":"no integer"}'), ("add", "{}")],
)
async def test_a_call_that_matches_no_tool_brings_a_warning(
    server: Server, ollama: ScriptedOllama, name: str, arguments: str
) -> None:
    ollama.scripts["/api/chat"] = stream(
        call_line(arguments).replace(b'"add"', f'"{name}"'.encode()), done()
    )
    events = await collect(server, conversation=ask(), tools=TOOLS)
    warning = events[kinds(events).index("tool_call") + 1].warning

    assert warning.code == pb.GENERATION_WARNING_CODE_TOOL_CALL_INVALID
    assert warning.tool_call_id == "call_abc"


async def test_dropped_schema_keywords_bring_a_warning(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    events = await collect(server, conversation=ask(), tools=TOOLS)

    assert events[0].warning.code == pb.GENERATION_WARNING_CODE_OPTION_IGNORED
    assert events[0].warning.field == "tools[0].parameters_schema"
    assert "minimum" in events[0].warning.message


async def test_the_unary_call_has_the_tool_calls_in_its_message(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = stream(call_line(), done())
    request = pb.GenerateRequest(model="gemma3:270m", conversation=ask(), tools=TOOLS)
    whole = (
        await server.generation.GenerateOnce(pb.GenerateOnceRequest(request=request), timeout=10)
    ).generation

    assert [call.name for call in whole.message.tool_calls] == ["add"]
    assert whole.finished.reason == pb.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize("name", ["functions.add", "x" * 256, "add numbers", "ajouter_é"])
async def test_an_answer_can_be_appended_whatever_the_tools_name(
    server: Server, ollama: ScriptedOllama, name: str
) -> None:
    called = call_line().replace(b'"name":"add"', f'"name":"{name}"'.encode())
    ollama.scripts["/api/chat"] = stream(called, done())
    request = pb.GenerateRequest(model="gemma3:270m", conversation=ask(), tools=TOOLS)
    once = pb.GenerateOnceRequest(request=request)
    answer = (await server.generation.GenerateOnce(once, timeout=10)).generation.message
    result = content_pb2.Message(
        role=content_pb2.ROLE_TOOL,
        tool_call_id=answer.tool_calls[0].id,
        parts=[content_pb2.Part(text="3")],
    )
    once.request.conversation.messages.extend([answer, result])
    await server.generation.GenerateOnce(once, timeout=10)
    sent = ollama.sent_to("/api/chat")[1].body["messages"]

    assert sent[1]["tool_calls"][0]["function"]["name"] == name
    assert sent[2]["tool_name"] == name


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x00b"])
async def test_the_name_in_a_past_tool_call_is_bounded(server: Server, name: str) -> None:
    call = content_pb2.ToolCall(id="1", name=name, arguments_json="{}")
    turn = content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, tool_calls=[call])
    refused = await refusal(server, conversation=pb.Conversation(messages=[turn]))

    assert refused.fields == ["conversation.messages[0].tool_calls[0].name"]


async def test_media_are_sent_to_ollama_as_base64(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    wav = b"RIFF\0\0\0\0WAVEfmt "
    parts = [
        content_pb2.Part(text="what is this?"),
        content_pb2.Part(media=content_pb2.Media(mime_type="image/png", data=PNG)),
        content_pb2.Part(media=content_pb2.Media(mime_type="audio/wav", data=wav)),
    ]
    await collect(server, conversation=ask(*parts))
    sent = ollama.sent_to("/api/chat")[0].body["messages"][0]

    assert sent["images"] == [base64.b64encode(data).decode() for data in (PNG, wav)]


@pytest.mark.parametrize(
    ("mime_type", "data", "field"),
    [
        ("image/png", b"GIF89a", "data"),
        ("image/webp", b"RIFF\0\0\0\0WAVE", "data"),
        ("image/jpeg", b"", "data"),
        ("image/gif", b"GIF89a", "mime_type"),
        ("", PNG, "mime_type"),
    ],
)
async def test_a_file_that_is_not_an_image_is_refused(
    server: Server, mime_type: str, data: bytes, field: str
) -> None:
    part = content_pb2.Part(media=content_pb2.Media(mime_type=mime_type, data=data))
    refused = await refusal(server, conversation=ask(part))

    assert refused.fields == [f"conversation.messages[0].parts[0].media.{field}"]


def _tool_turn(**fields: object) -> pb.Conversation:
    message = content_pb2.Message(role=content_pb2.ROLE_TOOL, **fields)  # type: ignore[arg-type]
    return pb.Conversation(messages=[message])


BAD_TURNS = {
    "a result of no call": (_tool_turn(), ["conversation.messages[0].tool_call_id"]),
    "a result of an unknown call": (
        _tool_turn(tool_call_id="x"),
        ["conversation.messages[0].tool_call_id"],
    ),
    "a user who calls": (
        pb.Conversation(
            messages=[
                content_pb2.Message(
                    role=content_pb2.ROLE_USER,
                    parts=[content_pb2.Part(text="x")],
                    tool_calls=[content_pb2.ToolCall(arguments_json="[")],
                    tool_name="x",
                )
            ]
        ),
        [
            "tool_calls",
            "tool_calls[0].id",
            "tool_calls[0].name",
            "tool_calls[0].arguments_json",
            "tool_name",
        ],
    ),
}


@pytest.mark.parametrize("case", BAD_TURNS)
async def test_invalid_tool_turns_name_their_fields(server: Server, case: str) -> None:
    conversation, fields = BAD_TURNS[case]
    refused = await refusal(server, conversation=conversation)

    assert [field.removeprefix("conversation.messages[0].") for field in refused.fields] == [
        field.removeprefix("conversation.messages[0].") for field in fields
    ]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "is not valid JSON"),
        ('{"type":"array"}', "object"),
        ('{"type":"object","properties":{"a":{"type":"nonsense"}}}', "is not a valid JSON Schema"),
        ('{"type":"object","$ref":"http://127.0.0.1:9/"}', "is not a valid JSON Schema"),
    ],
)
async def test_an_invalid_schema_names_its_tool(server: Server, schema: str, reason: str) -> None:
    refused = await refusal(
        server, conversation=ask(), tools=[content_pb2.Tool(name="f", parameters_schema=schema)]
    )

    assert refused.fields == ["tools[0].parameters_schema"]
    assert reason in refused.message


async def test_duplicate_tool_names_are_refused(server: Server) -> None:
    assert (
        await refusal(server, conversation=ask(), tools=[content_pb2.Tool(name="f")] * 2)
    ).fields == ["tools[1].name"]


@pytest.mark.parametrize("answer", ['{"a":', '{"a":"no integer"}', "no JSON"])
async def test_an_answer_that_breaks_its_format_brings_a_warning(
    server: Server, ollama: ScriptedOllama, answer: str
) -> None:
    ollama.scripts["/api/generate"] = words(answer, reason="length")
    schema = (
        '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],'
        '"not":{"required":["b"]}}'
    )
    events = await collect(server, prompt="x", format=pb.OutputFormat(json_schema=schema))

    assert kinds(events) == ["warning", "started", "delta", "warning", "finished"]
    assert "not" in events[0].warning.message
    assert events[-2].warning.code == pb.GENERATION_WARNING_CODE_FORMAT_NOT_SATISFIED


async def test_an_answer_that_matches_its_format_brings_no_warning(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = words('{"a"', ":1}")
    for shape in (
        pb.OutputFormat(any_json=pb.AnyJsonFormat()),
        pb.OutputFormat(json_schema='{"type":"object"}'),
    ):
        assert "warning" not in kinds(await collect(server, prompt="x", format=shape))


async def test_a_protobuf_format_is_sent_as_a_schema(
    server: Server, ollama: ScriptedOllama
) -> None:
    shape = pb.ProtobufFormat(
        message_type="acme.v1.Customer", file_descriptor_set=descriptor_set("order.proto")
    )
    await collect(server, prompt="x", format=pb.OutputFormat(protobuf=shape))
    refused = await refusal(
        server, prompt="x", format=pb.OutputFormat(protobuf=pb.ProtobufFormat(message_type="x"))
    )

    assert list(ollama.sent_to("/api/generate")[0].body["format"]["properties"]) == ["name", "age"]
    assert refused.fields == ["format.protobuf"]


async def test_heartbeats_are_sent_during_silence(server: Server, ollama: ScriptedOllama) -> None:
    begin, end = asyncio.Event(), asyncio.Event()
    piece = chunk(line(response="a", done=False))
    ollama.scripts["/api/generate"] = [begin, HEADERS_STREAM, piece, end, chunk(done()), END]
    request = pb.GenerateRequest(model="gemma3:270m", prompt="x")
    request.events.heartbeat_interval.FromMilliseconds(100)
    phases: Counter[int] = Counter()
    events = []
    async for event in server.generation.Generate(request, timeout=30):
        events.append(event)
        phases[event.progress.phase] += event.HasField("progress")
        if phases[pb.GENERATION_PHASE_EVALUATING_PROMPT] >= 3:
            begin.set()
        if phases[pb.GENERATION_PHASE_GENERATING] >= 2:
            end.set()

    assert kinds(events)[-1] == "finished"


async def test_heartbeats_end_with_their_call(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [60.0]
    request = pb.GenerateRequest(
        model="gemma3:270m",
        prompt="x",
        events=pb.EventOptions(heartbeat_interval=Duration(nanos=100_000_000)),
    )
    call = server.generation.Generate(request)
    while not ollama.sent_to("/api/generate"):
        await call.read()
    call.cancel()

    await asyncio.wait_for(ollama.sent_to("/api/generate")[0].closed.wait(), 10)
